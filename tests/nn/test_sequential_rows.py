"""Layers of a Sequential that inference runs in one launch: nobody can tell the difference."""

import copy
import gc
import pickle
import sys
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

import lucid
from lucid import kernels, nn
from lucid.autograd._function import observe
from lucid.models._blocks import _MobileAttention
from lucid.models._config import AttentionSpec
from lucid.nn.modules import _rows
from lucid.nn.modules._layer_scale import LayerScale
from lucid.nn.modules._residual import Residual, joined
from lucid.nn.utils import parametrize


def conv(i, o, size=1, groups=1, act=None, scale=None):
    layers = [nn.Conv2d(i, o, size, padding=size // 2, groups=groups, bias=False)]
    layers += [nn.BatchNorm2d(o), *([] if act is None else [act])]
    layers += [] if scale is None else [LayerScale(o, scale)]
    return nn.Sequential(*layers)


class Block(Residual):
    """Two convolutions around a depthwise one, or around nothing."""

    def __init__(self, channels, use_residual=True, middle=True, act=nn.ReLU6):
        super().__init__()
        hidden = 2 * channels
        self.use_residual = use_residual
        self.first = conv(channels, hidden, act=act())
        self.middle = conv(hidden, hidden, 3, hidden, nn.ReLU()) if middle else nn.Identity()
        self.last = conv(hidden, channels, scale=0.7)

    def branch(self):
        return self.first, self.middle, self.last


def build():
    lucid.manual_seed(0)
    model = nn.Sequential(
        conv(3, 6, 3, act=nn.ReLU()),
        nn.Sequential(
            Block(6),
            Block(6, use_residual=False, act=nn.GELU),
            nn.Sequential(Block(6, middle=False)),
            _MobileAttention(6, AttentionSpec(3, 4, 5, 1, 1, 2, True, True, True)),
        ),
        conv(6, 8, 3),
    )
    model[1][3].layer_scale.gamma.data[...] = 0.7
    for _ in range(3):  # statistics that are not at their start
        model(lucid.randn(4, 3, 9, 9))
    return model.eval()


def images(seed=0, count=2, size=9):
    x = np.random.default_rng(seed).standard_normal((count, 3, size, size))
    return lucid.tensor(x.astype(np.float32))


def called(module, x):
    """What a module gives, with each layer called by itself."""
    y = x
    if isinstance(module, nn.Sequential):
        for each in module:
            y = called(each, y)
    elif type(module).forward is Residual.forward and "forward" not in module.__dict__:
        for each in module.branch():
            y = called(each, y)
        y = joined(module, x, y)
    elif type(module).forward is _MobileAttention.forward and "forward" not in module.__dict__:
        y = joined(module, x, attended(module, called(module.norm, x)))
    else:
        y = module.forward(x)
    for hook in module._forward_hooks.values():
        y = hook.after(module, (x,), {}, y)
    return y


def attended(block, x):
    q, k, v = (called(part, x) for part in (block.query, block.key, block.value))
    heads, (n, _, height, width) = block.num_heads, q.shape
    q = q.reshape(n, heads, -1, height * width)
    shared = 1 if block.use_multi_query else heads
    k, v = (each.reshape(n, shared, each.shape[1] // shared, -1) for each in (k, v))
    scores = lucid.einsum("nheq,nhek->nhqk", q, k.expand(n, heads, *k.shape[2:]))
    weights = (scores / block.key_dim**0.5).softmax(-1)
    y = lucid.einsum("nhqk,nhvk->nhvq", weights, v.expand(n, heads, *v.shape[2:]))
    y = called(block.output, y.reshape(n, -1, height, width))
    return y if block.layer_scale is None else called(block.layer_scale, y)


def check(model, x, equal=None):
    """Compare a model with its layers, which are an equal model's: to copy reads all weights."""
    with lucid.no_grad():
        expected = called(equal or copy.deepcopy(model), x).numpy()
        for _ in range(3):
            np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def rows(monkeypatch):
    """How many layers were put in a row, and how often rows were run."""
    made, backend = {"layers": [], "runs": 0}, kernels.active()
    original = backend.keep_row

    def keep_row(links):
        made["layers"].append(len(links))
        run = original(links)

        def counted(x):
            made["runs"] += 1
            return run(x)

        return counted

    monkeypatch.setattr(backend, "keep_row", keep_row)
    return made


def test_all_layers_are_one_row(rows):
    model = build()
    check(model, images())
    assert rows == {"layers": [18], "runs": 2}  # the first call brings the weights into form
    for x in (images(1, 1), images(2, 5), images(3, 2, 12), images()):
        check(model, x, build())
    assert rows == {"layers": [18], "runs": 14}


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions(dtype):
    model, x = build().to(dtype), images().astype(dtype)
    with lucid.no_grad():
        expected = called(model, x).numpy()
        for _ in range(3):
            y = model(x).numpy()
            assert y.dtype == dtype
            tolerance = 2e-2 if dtype == "float16" else 1e-12
            np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


def test_not_while_recording_nor_observed(rows):
    model, x = build(), images()
    check(model, x)
    before = rows["runs"]
    model(x)
    seen = []
    with lucid.no_grad(), observe(lambda operation, *_: seen.append(operation.__name__)):
        model(x)
    assert rows["runs"] == before
    assert len(seen) > 10


# -- whatever is changed, and wherever -----------------------------------------------------------


def paths(model):
    return [name for name, _ in model.named_modules() if name]


@pytest.mark.parametrize("path", paths(build()))
def test_a_hook_sees_its_module(path):
    model, x, seen = build(), images(), []
    check(model, x)
    handle = model.get_submodule(path).register_forward_hook(
        lambda module, args, output: seen.append(output.numpy().copy())
    )
    check(model, x)
    assert len(seen) == 4
    for other in seen[1:]:
        np.testing.assert_allclose(other, seen[0], rtol=1e-4, atol=1e-5)
    handle.remove()  # a hook may also put another output in the place of the module's
    handle = model.get_submodule(path).register_forward_hook(
        lambda module, args, output: output * 0
    )
    check(model, x)
    handle.remove()
    check(model, x)


@pytest.mark.parametrize("name", [name for name, _ in build().named_parameters()])
def test_a_changed_parameter_is_noticed(name):
    model, x = build(), images()
    check(model, x)
    with lucid.no_grad():
        before = model(x).numpy()
    model.get_parameter(name).data[...] += 0.5
    check(model, x)
    with lucid.no_grad():
        assert not np.array_equal(model(x).numpy(), before)


def another_member(model):
    model[1][0].middle = conv(12, 12, 5, 12, nn.ReLU6()).eval()


def without_a_member(model):
    del model[1][1]


def no_member_in_the_middle(model):
    model[1][0].middle = nn.Identity()


def a_member_of_another_kind(model):
    model[1][0].middle = nn.Tanh()


def no_residual(model):
    model[1][0].use_residual = False


def one_more_residual(model):
    model[1][1].use_residual = True


def a_forward_of_its_own(model):
    model[1][0].forward = lambda x: x * 2.0


def another_class(model):
    class Doubled(Block):
        def forward(self, x):
            return super().forward(x) * 2.0

    model[1][0].__class__ = Doubled


def training_in_a_part(model):
    model[1][0].middle[1].running_var.fill_(4.0)
    model[1][0].middle.train()
    model[1][0].middle[1].momentum = 0.0  # so that each call gives the same


def another_stride(model):
    model[2][0].stride = (2, 2)


def a_wider_kernel(model):  # the map that is added gets another size, to which it is broadcast
    model[1][2][0].last[0].padding = (0, 0)
    model[1][2][0].last[0] = nn.Conv2d(12, 6, 9).eval()


def another_form_of_an_activation(model):
    model[1][1].first[2].approximate = "tanh"


def another_query(model):
    model[1][3].query = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1)).eval()


def heads_of_their_own(model):
    block = model[1][3]
    block.use_multi_query = False
    block.key[2] = nn.Conv2d(6, 12, 1).eval()
    block.value[2] = nn.Conv2d(6, 15, 1).eval()


def fewer_heads(model):
    block = model[1][3]
    block.num_heads, block.query[0] = 2, nn.Conv2d(6, 8, 1).eval()
    block.output = nn.Conv2d(10, 6, 1).eval()


def no_layer_scale(model):
    model[1][3].layer_scale = None


def no_norm(model):
    model[1][3].norm = nn.Identity()


def a_norm_in_training(model):
    model[1][3].norm.train()
    model[1][3].norm.momentum = 0.0


def another_eps(model):
    model[1][3].norm.eps = 0.5


def attention_without_residual(model):
    model[1][3].use_residual = False


def another_attention(model):
    class Doubled(_MobileAttention):
        def forward(self, x):
            return super().forward(x) * 2.0

    model[1][3].__class__ = Doubled


def gamma_of_another_kind(model):
    model[1][0].last[2].gamma = nn.Parameter(np.full(6, 0.3))


CHANGES = [
    another_member, without_a_member, no_member_in_the_middle, a_member_of_another_kind,
    no_residual, one_more_residual, a_forward_of_its_own, another_class, training_in_a_part,
    another_stride, a_wider_kernel, gamma_of_another_kind, another_query, heads_of_their_own,
    another_form_of_an_activation, fewer_heads, no_layer_scale, no_norm, a_norm_in_training,
    another_eps, attention_without_residual, another_attention,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change):
    model, x = build(), images()
    check(model, x)
    with lucid.no_grad():
        before = model(x).numpy()
        change(model)
        after = model(x).numpy()
        assert before.shape != after.shape or not np.allclose(before, after)
    check(model, x)


def test_a_wrong_input_is_named_by_its_layer():
    model = build()
    check(model, images())
    for x, message in (
        (lucid.zeros(1, 4, 6, 6), "Conv2d: expected 3 input channels"),
        (lucid.zeros(3, 6, 6), r"Conv2d: expected an input of shape \(N, C, H, W\)"),
    ):
        with lucid.no_grad(), pytest.raises(ValueError, match=message):
            model(x)
    check(model, images())


# -- norms at the beginning of a row --------------------------------------------------------------


def layouts(channels):
    rng = np.random.default_rng(0)
    for shape in ((1, channels, 5, 4), (3, channels, 4, 5), (1, channels, 1, 1)):
        yield rng.standard_normal(shape)
    yield rng.standard_normal((channels, 3, 5, 5)).transpose(1, 0, 2, 3)
    yield rng.standard_normal((2, 6, 5, channels)).transpose(0, 3, 1, 2)[:, :, ::2, ::-1]
    yield np.broadcast_to(rng.standard_normal((1, channels, 3, 1)), (2, channels, 3, 3))


def norm_first(kind):
    norm = (
        nn.SyncBatchNorm(4) if kind == "synchronous" else nn.BatchNorm2d(4, affine=kind != "bare")
    )
    rest = [nn.Conv2d(4, 4, 1, groups=2), nn.BatchNorm2d(4), nn.GELU(), nn.BatchNorm2d(4)]
    model = nn.Sequential(norm, *rest) if kind != "alone" else nn.Sequential(norm)
    model(lucid.randn(3, 4, 5, 5) * 3 + 1)
    return model.eval()


@pytest.mark.parametrize("kind", ["plain", "bare", "alone", "synchronous"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_norm_comes_first(kind, dtype):
    for x in layouts(4):
        model, x = norm_first(kind).to(dtype), lucid.from_numpy(x.astype(dtype))
        tolerance = {"float32": 1e-5, "float64": 1e-12, "float16": 2e-2}[dtype]
        with lucid.no_grad():
            expected = called(copy.deepcopy(model), x).numpy()
            for _ in range(4):
                np.testing.assert_allclose(
                    model(x).numpy(), expected, rtol=tolerance, atol=tolerance
                )


def test_a_norm_in_half_precision_computes_in_wider_numbers():
    model = nn.Sequential(nn.BatchNorm2d(4)).eval().half()
    model[0].running_mean.data[...], model[0].running_var.data[...] = 299, 0
    with lucid.no_grad():
        for _ in range(3):
            y = model(lucid.full((1, 4, 2, 2), 300.0, dtype="float16")).numpy()
            np.testing.assert_allclose(y, 316.2, rtol=1e-2)


class Twice(nn.Module):
    def forward(self, weight):
        return weight * 2


class Tripled(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) * 3


def a_parametrized_norm(model):
    parametrize.register_parametrization(model[0], "weight", Twice())


def a_norm_that_is_none(model):
    model[0].__class__ = nn.Identity


def a_norm_of_a_subclass(model):
    model[0].__class__ = Tripled


def a_norm_without_statistics(model):
    model[0].forward = lambda x: x * 3
    del model[0].running_mean


@pytest.mark.parametrize(
    "change",
    [a_parametrized_norm, a_norm_that_is_none, a_norm_of_a_subclass, a_norm_without_statistics],
)
def test_a_norm_of_another_kind(change):
    model, x = norm_first("plain"), lucid.randn(2, 4, 5, 5)
    check(model, x)
    change(model)
    check(model, x)
    if change is a_parametrized_norm:
        model[0].parametrizations["weight"].original.data[...] *= 3
        check(model, x)


# -- what else attention may be -------------------------------------------------------------------


def attention(**changes):
    spec = replace(AttentionSpec(3, 4, 5, 1, 1, 2, True, True, True), **changes)
    block = _MobileAttention(6, spec)
    block(lucid.randn(3, 6, 6, 6))
    return nn.Sequential(block).eval()


def smaller_queries(block):
    block.query = nn.Sequential(nn.Conv2d(6, 12, 1, 2)).eval()


def smaller_output(block):
    block.output = nn.Conv2d(15, 6, 3).eval()


def a_function_as_scale(block):
    del block.layer_scale
    block.layer_scale = lambda x: x * 2.0


def a_function_as_output(block):
    del block.output
    block.output = lambda x: x[:, :6] * 2.0


@pytest.mark.parametrize("use_residual", [True, False])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize(
    "change",
    [
        lambda block: None,
        smaller_queries,
        smaller_output,
        a_function_as_scale,
        a_function_as_output,
    ],
)
def test_attention_whose_parts_are_others(change, strides, use_residual):
    model = attention(
        query_h_stride=strides[0], query_w_stride=strides[1], use_residual=use_residual
    )
    x = lucid.randn(2, 6, 6, 6)
    for _ in range(2):
        expected = model(x).detach().numpy()  # with gradients: one layer after the other
        assert expected.shape == (2, 6, 6, 6)
        with lucid.no_grad():
            for _ in range(3):
                np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-5)
        change(model[0])


def test_the_scale_of_strided_attention_sees_the_input_size():
    model, seen = attention(query_h_stride=2, query_w_stride=2), []
    model[0].layer_scale.register_forward_hook(
        lambda module, args, output: seen.append(output.shape)
    )
    model(lucid.randn(2, 6, 6, 6))
    assert seen == [(2, 6, 6, 6)]


@pytest.mark.parametrize("name", ["key_dim", "value_dim", "num_heads"])
def test_numbers_of_attention_of_another_kind_are_refused_as_before(name):
    model, x = attention(), lucid.randn(2, 6, 6, 6)
    with lucid.no_grad():
        for _ in range(3):
            model(x)
        setattr(model[0], name, float(getattr(model[0], name)))
        for _ in range(3):
            with pytest.raises(TypeError, match="integer"):
                model(x)


def test_no_module_is_called_in_the_place_of_one():
    model = build()
    check(model, images())
    model[1].add_module("2", None)
    with lucid.no_grad(), pytest.raises(TypeError, match="'NoneType' object is not callable"):
        model(images())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_runs_its_own_layers(copied):
    model, x = build(), images()
    check(model, x)
    twin = copied(model)
    twin[1][0].last[0].weight.data[...] = 0
    check(model, x)
    check(twin, x)


def test_copies_while_a_thread_calls_the_model():
    model, x, before = build(), images(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    done = threading.Event()

    def call():
        while not done.is_set():
            model.train().eval()
            with lucid.no_grad():
                model(x)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        for _ in range(30):
            copied = copy.deepcopy(model)
            read = pickle.loads(pickle.dumps(model))
            assert all(type(copy.copy(p)) is nn.Parameter for p in model.parameters())
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(before)
    check(copied, x)
    check(read, x)


def test_training_and_back(rows):
    model, x = build(), images()
    check(model, x)
    model.train()
    assert not any("_steps" in module.__dict__ for module in model.modules())
    loss = model(x).square().mean()
    loss.backward()
    for parameter in model.parameters():
        parameter.data -= 0.1 * parameter.grad.data
    model.eval()
    check(model, x)
    assert rows["layers"] == [18, 18]


def test_a_module_that_a_thread_puts_in_while_steps_are_found(monkeypatch):
    model, x, original = build(), images(), _rows.steps

    def steps(modules, alone):
        found = original(modules, alone)
        monkeypatch.setattr(_rows, "steps", original)
        model[2] = nn.Sequential(nn.Conv2d(6, 2, 1)).eval()
        return found

    monkeypatch.setattr(_rows, "steps", steps)
    with lucid.no_grad():
        assert model(x).shape[1] == 8
    check(model, x)


def test_what_is_kept_goes_with_the_weights():
    model, x = build(), images()
    check(model, x)
    (row,) = model._steps.rows.values()
    kept = weakref.ref(row.links[0][0])
    del row
    model[0][0].weight.data[...] += 1
    with lucid.no_grad():
        model(x)
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("affine", [True, False])
def test_layer_scale_in_training(affine):
    """It is part of the norm's factors there: value and gradients are those of the layers."""
    model = conv(3, 5, 3, scale=0.7).double()
    if not affine:
        model[1] = nn.BatchNorm2d(5, affine=False, dtype=np.float64)
    twin, x = copy.deepcopy(model), images().double()
    weights = lucid.tensor(np.random.default_rng(1).standard_normal((2, 5, 9, 9)))
    y = model(x)
    assert y.grad_fn.name == "ConvNormAct"
    (y * weights).sum().backward()
    expected = called(twin, x)
    (expected * weights).sum().backward()
    np.testing.assert_allclose(
        y.detach().numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-12
    )
    for mine, other in zip(model.parameters(), twin.parameters()):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-10, atol=1e-10)
    for mine, other in zip(model.buffers(), twin.buffers()):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-12)
