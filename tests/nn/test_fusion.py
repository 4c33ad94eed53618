"""A Sequential: the fused operations give what the layers give one by one."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import lucid
from lucid import kernels, nn
from lucid.autograd import gradcheck, gradgradcheck
from lucid.autograd._function import observe


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
    original = kernels.active().keep_conv

    def keep_conv(weight, conv, epilogue):
        run = original(weight, conv, epilogue)

        def counted(x):
            if epilogue.scale is not None:
                calls.append(epilogue)
            return run(x)

        return counted

    monkeypatch.setattr(kernels.active(), "keep_conv", keep_conv)
    return calls


ACTIVATIONS = [
    None, nn.ReLU(), nn.ReLU6(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.Tanh(),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_same_value(activation, bias, affine, fused_calls):
    model, x = layers(activation, bias, affine)
    with lucid.no_grad():
        np.testing.assert_allclose(model(x).numpy(), one_by_one(model, x), rtol=1e-5, atol=1e-6)
    assert len(fused_calls) == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_that_is_not_recorded(activation):
    model, x = layers(activation)
    model.train()
    twin = copy.deepcopy(model)
    with lucid.no_grad():
        for _ in range(2):
            np.testing.assert_allclose(model(x).numpy(), one_by_one(twin, x), rtol=1e-4, atol=1e-5)
    for mine, other in zip(model.buffers(), twin.buffers()):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


def test_a_form_of_gelu_that_is_none_is_refused():
    model, x = layers(nn.GELU())
    with lucid.no_grad():
        model(x)
        model[2].approximate = "erf"
        with pytest.raises(ValueError, match="approximate"):
            model(x)


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


def test_one_image_is_to_a_sync_norm_what_it_is_layer_by_layer():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4)).eval(), lucid.randn(3, 4, 5)
    with lucid.no_grad():
        np.testing.assert_allclose(model(x).numpy(), one_by_one(model, x), rtol=1e-5, atol=1e-6)


def row(numbers, dtype=np.float32):
    return nn.Parameter(lucid.tensor(np.ones(numbers), dtype=dtype))


# What layers refuse, and kernels would read beyond its end or spread to all channels.
REFUSED = [
    ("0.bias", row(1)), ("0.bias", row(9)), ("0.weight", row((9, 3, 3, 3))),
    ("1.weight", row(1)), ("1.weight", row((5, 1))), ("1.bias", row(9)),
    ("1.running_mean", row(1)), ("1.running_mean", None), ("1.running_var", None),
    ("1.running_var", row(9)), ("1.eps", None), ("3.bias", row(1)), ("3.bias", row(9)),
    ("3.bias", row(4, np.float64)), ("3.weight", row((9, 5, 1, 1))), ("4.bias", row(2)),
]  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("path", "value"), REFUSED)
def test_what_a_layer_refuses_is_named_by_it(path, value, training):
    bias = not training or "bias" in path  # with one they are trained layer by layer
    model, x = (
        nn.Sequential(nn.Conv2d(3, 5, 3, bias=bias), nn.BatchNorm2d(5)),
        lucid.ones(2, 3, 8, 8),
    )
    model.extend([nn.ReLU(), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4)]).train(training)
    index, name = path.split(".")

    def refusal(run):
        with lucid.set_grad_enabled(training), pytest.raises((ValueError, TypeError)) as raised:
            run()
        return raised.type, str(raised.value)

    with lucid.set_grad_enabled(training):
        model(x)
        model(x)
    setattr(model[int(index)], name, value)
    assert refusal(lambda: model(x)) == refusal(lambda: one_by_one(model, x))


@pytest.mark.parametrize("index", [0, 1])
def test_an_array_in_the_place_of_a_parameter_is_taken(index):
    model, x = layers(nn.ReLU(), bias=True)
    del model[index].bias
    model[index].bias = np.ones(6, np.float32)
    with lucid.no_grad():
        np.testing.assert_allclose(model(x).numpy(), one_by_one(model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_an_activation_of_another_class_is_noticed(training):
    model, x = layers(nn.ReLU())
    model.train(training)
    with lucid.set_grad_enabled(training):
        model(x)
        model[2].__class__ = nn.Tanh
        np.testing.assert_allclose(
            model(x).detach().numpy(), one_by_one(model, x), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("part", ["input", "weight", "variance"])
def test_infinities_and_nan_arise_silently(part):
    model, x = layers(nn.ReLU())
    parts = {"input": x, "weight": model[0].weight, "variance": model[1].running_var}
    parts[part].data.flat[0] = -np.inf
    with lucid.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            np.testing.assert_array_equal(
                np.isnan(model(x).numpy()), np.isnan(one_by_one(model, x))
            )


# -- a Sequential that changes after its first call ---------------------------------------------


def parted(model):
    model.insert(1, nn.Identity())


def without_norm(model):
    del model[1]


def with_another_norm(model):
    model[1] = nn.GroupNorm(2, 6)


def with_a_forward_of_its_own(model):
    model[1].forward = lambda x: x * 3.0


def of_another_class(model):
    class Doubled(nn.BatchNorm2d):
        def forward(self, input):
            return super().forward(input) * 2

    model[1].__class__ = Doubled


def with_another_activation(model):
    model[2] = nn.Tanh()


def with_another_convolution(model):
    setattr(model, "0", nn.Conv2d(3, 6, 1))


def with_more(model):
    model.extend([nn.BatchNorm2d(4), nn.ReLU()])


def with_nothing_else(model):
    del model[3]


CHANGES = {  # and how many fused operations there are afterwards
    parted: 0,
    without_norm: 0,
    with_another_norm: 0,
    with_a_forward_of_its_own: 0,
    of_another_class: 0,
    with_another_activation: 1,
    with_another_convolution: 1,
    with_more: 2,
    with_nothing_else: 1,
}


@pytest.mark.parametrize(("change", "count"), CHANGES.items())
def test_a_change_is_seen(change, count, fused_calls):
    model, x = layers(nn.ReLU6())
    with lucid.no_grad():
        before = model(x).numpy()
        change(model)
        model.eval()
        fused_calls.clear()
        after = model(x).numpy()
        np.testing.assert_allclose(after, one_by_one(model, x), rtol=1e-5, atol=1e-6)
    assert len(fused_calls) == count
    assert after.shape != before.shape or (after != before).any()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), copy.copy]
)
@pytest.mark.parametrize("called", [True, False])
def test_a_copy_runs_its_own_layers(copied, called, fused_calls):
    model, x = layers(nn.ReLU6())
    with lucid.no_grad():
        y = model(x).numpy() if called else one_by_one(model, x)
        twin = copied(model)
        np.testing.assert_allclose(twin(x).numpy(), y, rtol=1e-5, atol=1e-6)
        twin[1] = nn.BatchNorm2d(6).eval()
        twin[1].running_mean.fill_(2.0)
        np.testing.assert_allclose(model(x).numpy(), y, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(twin(x).numpy(), one_by_one(twin, x), rtol=1e-5, atol=1e-6)
    assert len(fused_calls) == (4 if called else 3)


def test_being_called_is_no_change_of_state():
    model, x = layers(nn.ReLU6())
    before = pickle.dumps(model)
    with lucid.no_grad():
        model(x)
    assert pickle.dumps(model) == before


def test_layers_may_move_to_another_sequential(fused_calls):
    model, x = layers(nn.ReLU6())
    with lucid.no_grad():
        y = model(x).numpy()
        other = nn.Sequential(*(model.pop(0) for _ in range(3)))
        assert len(model) == 1
        np.testing.assert_allclose(model(other(x)).numpy(), y, rtol=1e-5, atol=1e-6)
    assert len(fused_calls) == 2


# -- training ---------------------------------------------------------------------------------


@pytest.fixture
def trained_calls(monkeypatch):
    calls = []
    original = kernels.active().conv_norm_act_train
    monkeypatch.setattr(
        kernels.active(), "conv_norm_act_train", lambda *a: calls.append(a) or original(*a)
    )
    return calls


def trained(model, x, run):
    """Return output, gradients and buffers after one step through ``run``."""
    state = {name: array.numpy().copy() for name, array in model.state_dict().items()}
    x = x.detach()
    x.requires_grad = True
    y = run(model, x)
    # Not the sum of squares: batch norm makes a constant of it.
    (y * np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)).sum().backward()
    found = {"y": y.detach().numpy(), "x": x.grad.numpy()}
    found |= {name: p.grad.numpy() for name, p in model.named_parameters()}
    found |= {name: b.numpy().copy() for name, b in model.named_buffers()}
    model.zero_grad()
    model.load_state_dict(state)
    return found


def through_layers(model, x):
    for module in model:
        x = module(x)
    return x


TRAINED = {
    "relu6": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 4, 1)
    ),
    "relu": lambda: nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
    "no activation": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)),
    "another activation": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.GELU()
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 3, 5, padding=2, groups=3, bias=False), nn.BatchNorm2d(3), nn.ReLU()
    ),
    "no factors": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU()
    ),
    "average of all batches": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8, momentum=None), nn.ReLU()
    ),
    "no statistics": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8, track_running_stats=False)
    ),
}


@pytest.mark.parametrize("make", TRAINED.values(), ids=TRAINED)
def test_training_is_the_same(make, trained_calls):
    lucid.manual_seed(0)
    model = make()
    for parameter in model.parameters():
        parameter.data += 0.1 * np.random.default_rng(0).standard_normal(parameter.shape)
    x = lucid.randn(3, 3, 9, 8)
    fused = trained(model, x, lambda model, x: model(x))
    assert len(trained_calls) == 1
    alone = trained(model, x, through_layers)
    assert len(trained_calls) == 1
    for name, value in alone.items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(fused[name], value, rtol=2e-4, atol=2e-5 * scale, err_msg=name)


@pytest.mark.parametrize("name", ["relu6", "no activation", "depthwise"])
def test_derivatives_of_training(name, trained_calls):
    lucid.manual_seed(1)
    model = TRAINED[name]().double()
    x = lucid.randn(2, 3, 5, 4, dtype=np.float64)
    x.requires_grad = True
    assert gradcheck(model, (x,))
    assert gradgradcheck(model, (x,))
    parameters = tuple(model.parameters())
    assert gradcheck(lambda *_: model(x.detach()), parameters)
    assert trained_calls


def test_a_retained_graph_gives_the_same_gradients_again(trained_calls):
    model = TRAINED["relu"]()
    loss = (model(lucid.randn(3, 3, 9, 8)) ** 3).sum()
    found = []
    for retain_graph in (True, True, False):
        loss.backward(retain_graph=retain_graph)
        found.append([p.grad.numpy().copy() for p in model.parameters()])
        model.zero_grad()
    for first, *others in zip(*found):
        for other in others:
            np.testing.assert_array_equal(first, other)
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        loss.backward()
    assert trained_calls


def test_a_gradient_that_was_interrupted_cannot_be_asked_for_again(monkeypatch):
    model = TRAINED["relu"]()
    loss = model(lucid.randn(3, 3, 9, 8)).sum()

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(kernels.active(), "conv_norm_act_train_grad", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loss.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        loss.backward()


def test_one_image_is_trained_layer_by_layer(trained_calls):
    """It may have one value a channel, which batch norm refuses."""
    model = TRAINED["relu"]()
    model(lucid.randn(1, 3, 4, 4))
    assert not trained_calls
    with pytest.raises(ValueError, match="BatchNorm2d: in training there must be more than one"):
        model(lucid.randn(1, 3, 1, 1))


def test_a_bias_is_trained_layer_by_layer(trained_calls):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model(lucid.randn(2, 3, 4, 4)).sum().backward()
    assert not trained_calls
    assert model[0].bias.grad is not None


def test_hooks_and_observers_see_single_layers_in_training(trained_calls):
    model, x = TRAINED["relu"](), lucid.randn(2, 3, 4, 4)
    seen = []
    handle = model[1].register_forward_hook(lambda m, args, out: seen.append(out.shape))
    model(x)
    handle.remove()
    assert seen == [(2, 8, 4, 4)]
    with observe(lambda kind, args, outputs: seen.append(kind.__name__)):
        model(x)
    assert seen[1:] == ["Conv2d", "BatchNormTraining", "Clip"]
    assert not trained_calls


def test_wrong_input_is_named_in_training():
    with pytest.raises(ValueError, match=r"Conv2d: expected 3 input channels .* got 4"):
        TRAINED["relu"]()(lucid.randn(2, 4, 8, 8))


def test_a_changed_weight_is_noticed():
    model, x = TRAINED["relu"](), lucid.randn(2, 3, 4, 4)
    y = model(x)
    with lucid.no_grad():
        model[0].weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_statistics_beyond_float32_are_infinite_without_a_warning(size):
    block = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1), nn.ReLU())
    block(lucid.tensor(np.linspace(-size, size, 8, dtype=np.float32).reshape(2, 1, 2, 2)))
    assert np.isinf(block[1].running_var.data).all()
