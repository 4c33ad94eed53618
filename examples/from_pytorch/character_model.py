"""A character model: a GRU reads a text letter by letter, and writes one like it.

    python examples/from_pytorch/character_model.py
    python examples/from_pytorch/character_model.py --size small

The network reads pieces of the text, several beside each other, and says which letter comes next;
its state goes on from piece to piece. Gradients are clipped. Then it writes: a letter is drawn from
what it says, and given to it as the next one.

What had to change from PyTorch:

- the imports
- ``layer.weight.data.uniform_(a, b)`` is ``nn.init.uniform_(layer.weight, a, b)``: ``data`` is a
  NumPy array
"""

import argparse
import math

import lucid as torch
import lucid.nn as nn
import lucid.optim as optim

SIZES = {"small": 25, "full": 150}  # epochs

TEXT = """
In the morning the keeper climbs the stairs of the lighthouse. There are ninety steps, and he
counts them every day. At the top he cleans the glass of the great lamp, looks at the sea, and
writes the weather into a book. In the evening he climbs the stairs again, lights the lamp, and
looks at the sea until it is dark. When there is fog he rings the bell, once every minute, until
the fog is gone. The ships hear the bell and see the lamp, and they stay away from the rocks. In
the winter the wind is strong, and the sea comes up to the door of the lighthouse. Then the keeper
stays at the top for many days. He reads the old pages of the book, and he counts the ships. In the
summer the sea is quiet, and the children of the village come over the sand to see the lamp. The
keeper tells them of the fog and of the bell, of the winter and of the wind. The children count the
steps of the stairs, and there are ninety every time. At the top they look at the sea and at the
ships, and in the evening they go home over the sand. Then the keeper lights the lamp again, and
writes the weather into the book.
"""
BATCH, BPTT = 8, 24  # pieces beside each other, and letters in each


class CharModel(nn.Module):
    """Maps letters (L, N) and a state to logits (L, N, letters) and the next state."""

    def __init__(self, letters, width=64):
        super().__init__()
        self.width = width
        self.drop = nn.Dropout(0.1)
        self.encoder = nn.Embedding(letters, 24)
        self.rnn = nn.GRU(24, width)
        self.decoder = nn.Linear(width, letters)
        self.init_weights()

    def init_weights(self):
        initrange = 0.1
        nn.init.uniform_(self.encoder.weight, -initrange, initrange)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -initrange, initrange)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        return self.decoder(self.drop(output)), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(1, bsz, self.width)


def batchify(data, bsz):
    """Return the text as columns (letters, bsz)."""
    nbatch = data.size(0) // bsz
    data = data.narrow(0, 0, nbatch * bsz)
    return data.view(bsz, -1).t().contiguous()


def train(model, data, criterion, optimizer):
    """Read the text once, and return the mean loss of a letter."""
    model.train()
    hidden = model.init_hidden(BATCH)
    total = 0.0
    for i in range(0, data.size(0) - 1, BPTT):
        seq_len = min(BPTT, len(data) - 1 - i)
        inputs, targets = data[i : i + seq_len], data[i + 1 : i + 1 + seq_len].reshape(-1)
        model.zero_grad()
        hidden = hidden.detach()
        output, hidden = model(inputs, hidden)
        loss = criterion(output.view(seq_len * BATCH, -1), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        total += loss.item() * seq_len
    return total / (data.size(0) - 1)


def write(model, letters, count, temperature=0.5):
    """Return letters that the network writes."""
    model.eval()
    hidden = model.init_hidden(1)
    input = torch.zeros(1, 1, dtype=torch.long)
    written = []
    with torch.no_grad():
        for _ in range(count):
            output, hidden = model(input, hidden)
            word_weights = output.squeeze().div(temperature).exp().cpu()
            index = torch.multinomial(word_weights, 1)[0]
            input.fill_(index)
            written.append(letters[index])
    return "".join(written)


def main(size="full"):
    """Return the loss of a letter, and what the network writes."""
    torch.manual_seed(3)
    text = " ".join(TEXT.split())
    letters = sorted(set(text))
    corpus = torch.tensor([letters.index(letter) for letter in text], dtype=torch.long)
    data = batchify(corpus, BATCH)
    model = CharModel(len(letters))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    for epoch in range(1, SIZES[size] + 1):
        loss = train(model, data, criterion, optimizer)
        scheduler.step(loss)
        if epoch % 10 == 0 or epoch == SIZES[size]:
            print(f"epoch {epoch}: loss {loss:.3f}, perplexity {math.exp(loss):.2f}")
    written = write(model, letters, 200)
    print(written)
    return loss, written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    main(parser.parse_args().size)
