"""A sequence tagger: an LSTM reads sentences, and says of each word what part of speech it is.

    python examples/from_pytorch/sequence_tagger.py
    python examples/from_pytorch/sequence_tagger.py --size small

The sentences are made of a few words, some of which are nouns in one place and verbs in another:
"the old guard can guard the can". Which one a word is only its neighbours tell; a table of words
names the commoner one. The network reads one sentence at a time, from both sides.

What had to change from PyTorch:

- the imports
"""

import argparse
import random

import lucid as torch
import lucid.nn as nn
import lucid.nn.functional as F
import lucid.optim as optim

SIZES = {"small": 3, "full": 12}  # epochs

EMBEDDING_DIM = 12
HIDDEN_DIM = 16

WORDS = {
    "DET": ["the", "a", "every", "this"],
    "ADJ": ["old", "small", "light", "cold", "open"],
    "NN": ["guard", "can", "watch", "ship", "light", "cold", "dog", "cook"],
    "MOD": ["can", "will", "must"],
    "V": ["guard", "watch", "ship", "light", "open", "cook", "find"],
}


def sentence(rng):
    """Return words and their tags."""
    noun_phrases = (["DET", "NN"], ["DET", "ADJ", "NN"])
    tags = rng.choice(noun_phrases) + rng.choice((["V"], ["MOD", "V"])) + rng.choice(noun_phrases)
    return [rng.choice(WORDS[tag]) for tag in tags], tags


def prepare_sequence(seq, to_ix):
    """Return the numbers of words or of tags."""
    idxs = [to_ix[w] for w in seq]
    return torch.tensor(idxs, dtype=torch.long)


class LSTMTagger(nn.Module):
    """Maps the numbers of words (L,) to the logarithms of probabilities of tags (L, tags)."""

    def __init__(self, embedding_dim, hidden_dim, vocab_size, tagset_size):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim // 2, bidirectional=True)
        self.hidden2tag = nn.Linear(hidden_dim, tagset_size)

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence)
        lstm_out, _ = self.lstm(embeds.view(len(sentence), 1, -1))
        tag_space = self.hidden2tag(lstm_out.view(len(sentence), -1))
        return F.log_softmax(tag_space, dim=1)


def commonest(training_data):
    """Return each word's commonest tag."""
    counts = {}
    for words, tags in training_data:
        for word, tag in zip(words, tags):
            counts.setdefault(word, []).append(tag)
    return {word: max(set(tags), key=tags.count) for word, tags in counts.items()}


def main(size="full"):
    """Return how many words of other sentences are tagged right: by the network, by a table."""
    torch.manual_seed(1)
    rng = random.Random(1)
    training_data = [sentence(rng) for _ in range(200)]
    test_data = [sentence(rng) for _ in range(100)]
    word_to_ix = {}
    for words in WORDS.values():
        for word in words:
            if word not in word_to_ix:
                word_to_ix[word] = len(word_to_ix)
    tag_to_ix = {tag: index for index, tag in enumerate(WORDS)}

    model = LSTMTagger(EMBEDDING_DIM, HIDDEN_DIM, len(word_to_ix), len(tag_to_ix))
    loss_function = nn.NLLLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for epoch in range(SIZES[size]):
        total = 0.0
        for words, tags in training_data:
            model.zero_grad()
            sentence_in = prepare_sequence(words, word_to_ix)
            targets = prepare_sequence(tags, tag_to_ix)
            tag_scores = model(sentence_in)
            loss = loss_function(tag_scores, targets)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / len(training_data):.4f}")

    table = commonest(training_data)
    by_network = by_table = count = 0
    names = list(tag_to_ix)
    with torch.no_grad():
        for words, tags in test_data:
            scores = model(prepare_sequence(words, word_to_ix))
            found = [names[i] for i in torch.argmax(scores, dim=1).tolist()]
            by_network += sum(a == b for a, b in zip(found, tags))
            by_table += sum(table.get(word) == tag for word, tag in zip(words, tags))
            count += len(words)
    print(" ".join(f"{word}/{tag}" for word, tag in zip(words, found)))
    print(f"right: {100 * by_network / count:.1f} %, by a table {100 * by_table / count:.1f} %")
    return by_network / count, by_table / count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    main(parser.parse_args().size)
