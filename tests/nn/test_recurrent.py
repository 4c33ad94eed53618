"""Recurrent layers: what they refuse, packed sequences, plans; PyTorch's samples are elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.autograd import gradcheck
from lucid.nn.utils import rnn

LENGTHS = [2, 4, 1, 4]
KINDS = (nn.RNN, nn.LSTM, nn.GRU)


def sequences(size: int = 3) -> list[lucid.Tensor]:
    rng = np.random.default_rng(0)
    return [lucid.tensor(rng.standard_normal((n, size)), dtype=np.float64) for n in LENGTHS]


def build(kind: Any, **settings: Any) -> Any:
    lucid.manual_seed(0)
    return kind(3, 2, dtype=np.float64, **settings)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_packed_sequences_are_the_single_ones(kind: Any) -> None:
    layer = build(kind, num_layers=2, bidirectional=True)
    output, last = layer(rnn.pack_sequence(sequences(), enforce_sorted=False))
    padded, lengths = rnn.pad_packed_sequence(output, batch_first=True)
    assert lengths.tolist() == LENGTHS
    for place, sequence in enumerate(sequences()):
        one, end = layer(sequence)
        np.testing.assert_allclose(padded[place, : len(sequence)].data, one.data, rtol=1e-12)
        for packed, single in zip(*(s if isinstance(s, tuple) else (s,) for s in (last, end))):
            np.testing.assert_allclose(packed[:, place].data, single.data, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_gradients_through_packed_sequences(kind: Any) -> None:
    layer = build(kind, bidirectional=True)
    x = rnn.pad_sequence(sequences()).detach().requires_grad_()

    def run(x: lucid.Tensor, *_: Any) -> Any:
        packed = rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        return rnn.pad_packed_sequence(layer(packed)[0])[0]

    assert gradcheck(run, (x, *layer.parameters()))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_packing_agrees_with_pytorch(kind: Any) -> None:
    torch = pytest.importorskip("torch")
    ours = build(kind, bidirectional=True)
    theirs = getattr(torch.nn, kind.__name__)(3, 2, bidirectional=True).double()
    theirs.load_state_dict({k: torch.from_numpy(v.data) for k, v in ours.state_dict().items()})
    utils = torch.nn.utils.rnn
    given = [torch.from_numpy(sequence.data) for sequence in sequences()]
    packed = utils.pack_sequence(given, enforce_sorted=False)
    mine = rnn.pack_sequence(sequences(), enforce_sorted=False)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        np.testing.assert_array_equal(getattr(mine, name).data, getattr(packed, name).numpy())
    expected = utils.pad_packed_sequence(theirs(packed)[0], padding_value=-1.0, total_length=6)
    got = rnn.pad_packed_sequence(ours(mine)[0], padding_value=-1.0, total_length=6)
    for one, two in zip(expected, got):
        np.testing.assert_allclose(two.data, one.detach().numpy(), rtol=1e-12)
    left = utils.pad_sequence(given, padding_value=7.0, padding_side="left").numpy()
    mine = rnn.pad_sequence(sequences(), padding_value=7.0, padding_side="left")
    np.testing.assert_array_equal(mine.data, left)


def test_dropout_is_between_the_layers_in_training() -> None:
    layer = nn.LSTM(3, 2, num_layers=2, dropout=1.0)
    x = lucid.randn(4, 1, 3)
    bias = nn.LSTM(2, 2)
    state = layer.state_dict()
    bias.load_state_dict({k: state[k.replace("l0", "l1")] for k in bias.state_dict()})
    assert lucid.equal(layer(x)[0], bias(lucid.zeros(4, 1, 2))[0])
    assert not lucid.equal(layer.eval()(x)[0], layer.train()(x)[0])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_plan_computes_the_same(kind: Any) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(3, 4, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x)[0][:, -1])

    model, x = Last().eval(), lucid.randn(2, 5, 3)
    plan = lucid.compile(model, (2, 5, 3))
    with lucid.no_grad():
        np.testing.assert_allclose(plan(x).data, model(x).data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nn.LSTM(3, 2, bias=1), TypeError, "LSTM: bias must be True or False, got 1"),
        (lambda: nn.LSTM(3, 2, proj_size=2), ValueError, "smaller than hidden_size=2, got 2"),
        (lambda: nn.GRU(3, 2, num_layers=0), ValueError, "GRU: num_layers must be at least 1"),
        (lambda: nn.RNN(3, 2, nonlinearity="elu"), ValueError, "RNN: nonlinearity must be one of"),
        (
            lambda: nn.LSTM(3, 2)(lucid.ones(5, 1, 4)),
            ValueError,
            r"LSTM: expected 3 input features \(last axis\), got an input of shape \(5, 1, 4\)",
        ),
        (
            lambda: nn.LSTM(3, 2)(lucid.ones(5, 1, 3, dtype=np.float64)),
            TypeError,
            "LSTM: expected an input of float32, as the parameters are, got float64",
        ),
        (
            lambda: nn.GRU(3, 2, batch_first=True)(lucid.ones(2, 0, 3)),
            ValueError,
            r"GRU: expected an input of shape \(N, T, I\) .* at least one step, got \(2, 0, 3\)",
        ),
        (
            lambda: nn.LSTM(3, 2)(lucid.ones(5, 1, 3), lucid.ones(1, 1, 2)),
            ValueError,
            r"LSTM: expected a state of \(1, 1, 2\) and \(1, 1, 2\), got \(1, 1, 2\)",
        ),
        (
            lambda: rnn.pack_padded_sequence(lucid.ones(4, 2), [2, 4]),
            ValueError,
            "expected lengths that fall, got",
        ),
        (
            lambda: rnn.pack_padded_sequence(lucid.ones(4, 2), [5, 4]),
            ValueError,
            "expected a length from 1 to 4 for each of the 2 sequences",
        ),
        (
            lambda: rnn.pad_sequence([lucid.ones(4, 2), lucid.ones(4, 3)]),
            ValueError,
            "pad_sequence: expected sequences .* that differ in the first axis alone",
        ),
        (
            lambda: rnn.pad_packed_sequence(rnn.pack_sequence([lucid.ones(4)]), total_length=3),
            ValueError,
            "total_length must be at least the longest sequence's 4, got 3",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
