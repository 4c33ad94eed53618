"""A Sequential in evaluation: the fused kernel gives what the layers give one by one."""

import numpy as np
import pytest

import lucid
from lucid import kernels, nn


def layers(activation, bias=False, affine=True):
    lucid.manual_seed(0)
    row = [nn.Conv2d(3, 6, 3, 2, 1, bias=bias), nn.BatchNorm2d(6, affine=affine)]
    if activation is not None:
        row.append(activation)
    model = nn.Sequential(*row, nn.Conv2d(6, 4, 1))
    x = lucid.randn(2, 3, 9, 8)
    model(x)  # statistics that are not at their start
    return model.eval(), x


def one_by_one(model, x):
    for module in model:
        x = module(x)
    return x.detach().numpy()


@pytest.fixture
def fused_calls(monkeypatch):
    calls = []
    original = kernels.active().conv_norm_act
    monkeypatch.setattr(
        kernels.active(), "conv_norm_act", lambda *a, **k: calls.append(a) or original(*a, **k)
    )
    return calls


@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.ReLU6(), nn.GELU(), nn.Tanh()])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_same_value(activation, bias, affine, fused_calls):
    model, x = layers(activation, bias, affine)
    with lucid.no_grad():
        np.testing.assert_allclose(model(x).numpy(), one_by_one(model, x), rtol=1e-5, atol=1e-6)
    assert len(fused_calls) == 1


def test_not_while_recording(fused_calls):
    model, x = layers(nn.ReLU6())
    model(x).sum().backward()
    assert model[0].weight.grad is not None
    assert not fused_calls


def test_not_in_training(fused_calls):
    model, x = layers(nn.ReLU6())
    model.train()
    before = model[1].running_mean.numpy().copy()
    with lucid.no_grad():
        model(x)
    assert not fused_calls
    assert (model[1].running_mean.numpy() != before).all()


def test_not_without_statistics(fused_calls):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    with lucid.no_grad():
        y = model(lucid.randn(2, 3, 5, 5)).numpy()
    assert not fused_calls
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-6)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_hooks_see_their_layer(index, fused_calls):
    model, x = layers(nn.ReLU6())
    seen = []
    handle = model[index].register_forward_hook(
        lambda m, args, out: seen.append(out.numpy().copy())
    )
    with lucid.no_grad():
        y = model(x).numpy()
    handle.remove()
    assert len(seen) == 1
    assert len(fused_calls) == (1 if index == 2 else 0)
    with lucid.no_grad():
        np.testing.assert_allclose(y, one_by_one(model, x), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(seen[0], one_by_one(model[: index + 1], x), rtol=1e-5, atol=1e-6)


def test_a_class_of_the_users_own_is_called(fused_calls):
    class Doubled(nn.BatchNorm2d):
        def forward(self, input):
            return super().forward(input) * 2

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Doubled(4)).eval()
    x = lucid.randn(1, 3, 2, 2)
    with lucid.no_grad():
        plain = nn.Sequential(model[0], nn.BatchNorm2d(4)).eval()
        np.testing.assert_allclose(model(x).numpy(), 2 * plain(x).numpy(), rtol=1e-5)
    assert len(fused_calls) == 1  # the plain one


def test_wrong_input_is_named():
    model, _ = layers(nn.ReLU6())
    with (
        lucid.no_grad(),
        pytest.raises(ValueError, match=r"Conv2d: expected 3 input channels .* got 4"),
    ):
        model(lucid.randn(1, 4, 8, 8))


def test_norm_of_another_width_is_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)).eval()
    with lucid.no_grad(), pytest.raises(ValueError, match="BatchNorm2d: expected 5 channels"):
        model(lucid.randn(1, 3, 8, 8))
