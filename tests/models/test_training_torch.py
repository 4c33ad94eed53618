"""Training beside PyTorch: the same data, order and initial weights give the same loss curve."""

import numpy as np
import pytest

import lucid
from lucid import models, nn, optim

torch = pytest.importorskip("torch")

from tests.reference_torch import build_conv_small  # noqa: E402


def pair(num_classes=10, in_channels=3):
    """lucid's conv_small and PyTorch's, with PyTorch's initial weights in both."""
    torch.manual_seed(0)
    theirs = build_conv_small(num_classes, in_channels)
    ours = models.mobilenet_v4_conv_small(num_classes, in_channels=in_channels)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("size", [(64, 64), (33, 50)])
def test_logits(size):
    ours, theirs = pair()
    x = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
    # Statistics that are not at their start.
    ours.train()
    theirs.train()
    ours(lucid.tensor(x))
    theirs(torch.from_numpy(x))
    ours.eval()
    theirs.eval()
    with lucid.no_grad(), torch.no_grad():
        a, b = ours(lucid.tensor(x)).numpy(), theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


def loss_curves(dtype, size, learning_rate, momentum):
    """The losses of twenty SGD steps, lucid's and PyTorch's, on the same batches in order."""
    ours, theirs = pair()
    ours.to(dtype)
    theirs.to(getattr(torch, dtype))
    rng = np.random.default_rng(1)
    images = rng.standard_normal((2, 16, 3, size, size)).astype(dtype)
    labels = rng.integers(0, 10, (2, 16))
    settings = {"lr": learning_rate, "momentum": momentum, "weight_decay": 1e-4}
    our_sgd = optim.SGD(ours.parameters(), **settings)
    their_sgd = torch.optim.SGD(theirs.parameters(), **settings)
    our_losses, their_losses = [], []
    for step in range(20):
        x, y = images[step % 2], labels[step % 2]
        loss = nn.functional.cross_entropy(ours(lucid.tensor(x, dtype)), lucid.tensor(y))
        our_sgd.zero_grad()
        loss.backward()
        our_sgd.step()
        our_losses.append(loss.item())
        other = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        their_sgd.zero_grad()
        other.backward()
        their_sgd.step()
        their_losses.append(other.item())
    return np.array(our_losses), np.array(their_losses)


def test_twenty_sgd_steps():
    """In float64, at a learning rate that makes the loss fall by a lot."""
    ours, theirs = loss_curves("float64", 64, 0.01, 0.9)
    assert theirs[-1] < 0.5 * theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_twenty_sgd_steps_in_float32():
    """In float32, with steps small enough for the comparison to mean something.

    ReLU6 switches where a rounding error moves a value over its kink, and batch norm over few
    positions multiplies the difference: with the settings above PyTorch's own float32 curve
    leaves its float64 curve by 16 %. Here it stays within a few 1e-4.
    """
    ours, theirs = loss_curves("float32", 96, 1e-4, 0.0)
    assert theirs[-1] < 0.97 * theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_gradients_of_one_step():
    """In float64: in float32 a ReLU6 that switches changes PyTorch's own by percents."""
    ours, theirs = pair()
    ours.double()
    theirs.double()
    rng = np.random.default_rng(2)
    images, labels = rng.standard_normal((4, 3, 64, 64)), np.arange(4)
    x = lucid.tensor(images, np.float64)
    nn.functional.cross_entropy(ours(x), lucid.tensor(labels)).backward()
    torch.nn.functional.cross_entropy(
        theirs(torch.from_numpy(images)), torch.from_numpy(labels)
    ).backward()
    expected = {k: p.grad.numpy() for k, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        norm = np.linalg.norm(expected[name])
        error = np.linalg.norm(parameter.grad.numpy() - expected[name])
        assert error <= 1e-8 * norm + 1e-10, name
    for name, buffer in ours.named_buffers():
        np.testing.assert_allclose(
            buffer.numpy(), dict(theirs.named_buffers())[name].numpy(), rtol=1e-9, atol=1e-12
        )
