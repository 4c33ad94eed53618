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


def test_twenty_sgd_steps():
    ours, theirs = pair()
    rng = np.random.default_rng(1)
    batches = [
        (rng.standard_normal((16, 3, 64, 64)).astype(np.float32), rng.integers(0, 10, 16))
        for _ in range(20)
    ]
    our_sgd = optim.SGD(ours.parameters(), 0.02, momentum=0.9, weight_decay=1e-4)
    their_sgd = torch.optim.SGD(theirs.parameters(), 0.02, momentum=0.9, weight_decay=1e-4)
    our_losses, their_losses = [], []
    for images, labels in batches:
        loss = nn.functional.cross_entropy(ours(lucid.tensor(images)), lucid.tensor(labels))
        our_sgd.zero_grad()
        loss.backward()
        our_sgd.step()
        our_losses.append(loss.item())
        other = torch.nn.functional.cross_entropy(
            theirs(torch.from_numpy(images)), torch.from_numpy(labels)
        )
        their_sgd.zero_grad()
        other.backward()
        their_sgd.step()
        their_losses.append(other.item())
    assert len(set(their_losses)) == 20
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-3)


def test_gradients_of_one_step():
    ours, theirs = pair()
    rng = np.random.default_rng(2)
    images, labels = rng.standard_normal((4, 3, 64, 64)).astype(np.float32), np.arange(4)
    nn.functional.cross_entropy(ours(lucid.tensor(images)), lucid.tensor(labels)).backward()
    torch.nn.functional.cross_entropy(
        theirs(torch.from_numpy(images)), torch.from_numpy(labels)
    ).backward()
    expected = {k: p.grad.numpy() for k, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        norm = np.linalg.norm(expected[name])
        error = np.linalg.norm(parameter.grad.numpy() - expected[name])
        assert error <= 1e-3 * norm + 1e-6, name
    for name, buffer in ours.named_buffers():
        np.testing.assert_allclose(
            buffer.numpy(), dict(theirs.named_buffers())[name].numpy(), rtol=1e-4, atol=1e-5
        )
