"""lucid.compile: the model's own results, whatever the model does."""

import gc
import itertools
import pickle
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import lucid
from lucid import kernels, models, nn
from lucid._compile._arena import Life, place
from lucid._compile._fuse import Attention, Convolution
from lucid.graph import leaves
from lucid.kernels import _memory
from tests.models.test_config import tiny

SLOW = pytest.mark.slow


def settled(model, *shape):
    """Return the model in evaluation mode, with statistics that are not at their start."""
    with lucid.no_grad():
        model(lucid.randn(4, *shape))
    return model.eval()


def outputs(value):
    if isinstance(value, lucid.Tensor):
        return [value.numpy()]
    if isinstance(value, np.ndarray):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [array for item in items for array in outputs(item)]


def check(model, shape, batches=None, rtol=1e-4):
    compiled = lucid.compile(model, shape)
    for n in batches or range(1, shape[0] + 1):
        x = np.random.default_rng(n).standard_normal((n, *shape[1:])).astype(np.float32)
        with lucid.no_grad():
            expected = outputs(model(lucid.tensor(x)))
        for given in (x, lucid.tensor(x)):
            got = compiled(given)
            assert type(got) in (type(given), list, tuple, dict)
            for a, b in zip(outputs(got), expected):
                assert a.shape == b.shape
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=1))
    return compiled


@pytest.mark.parametrize(
    "name", ["conv_small", *[pytest.param(n, marks=SLOW) for n in ("conv_medium", "hybrid_medium")]]
)
def test_variants(name, threads):
    lucid.manual_seed(0)
    model = settled(models.create_model(f"mobilenet_v4_{name}", num_classes=7), 3, 64, 64)
    check(model, (3, 3, 64, 96), batches=[3, 1, 2])


@pytest.mark.parametrize("act", ["relu6", "relu", "gelu", "silu", "hardswish"])
def test_activations(act):
    lucid.manual_seed(0)
    cfg = {key: {**group, "act": act} for key, group in tiny(layer2__layer_scale=0.3).items()}
    check(settled(models.MobileNet_V4(cfg, 5), 3, 40, 40), (2, 3, 37, 45))


@pytest.mark.parametrize("act", [nn.SiLU(), nn.Sigmoid(), nn.GLU(1), nn.ELU(), nn.Softplus()])
def test_activations_of_small_values(act):
    """Small results are right relative to their size: e^x itself decides them."""
    layer = nn.Conv2d(2, 2, 1)
    with lucid.no_grad():
        layer.weight.copy_(lucid.eye(2).reshape(2, 2, 1, 1))
        layer.bias.zero_()
    compiled = lucid.compile(nn.Sequential(layer, act).eval(), (2, 2, 16, 16))
    x = np.linspace(-80, -20, 1024, dtype=np.float32).reshape(2, 2, 16, 16)
    wide = lucid.tensor(x, dtype=np.float64)
    np.testing.assert_allclose(compiled(x), act(wide).numpy(), rtol=2e-6)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Hardsigmoid()])
def test_nan_passes_a_clip(act):
    layer = nn.Conv2d(1, 1, 1)
    model = nn.Sequential(layer, act).eval()
    x = np.linspace(-8, 8, 256, dtype=np.float32).reshape(1, 1, 16, 16)
    x[0, 0, 3, 5] = np.nan
    got = lucid.compile(model, x.shape)(x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(x))
    np.testing.assert_allclose(got, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_strided_queries_and_heads():
    attention = [2, 4, 6, 2, 2, 1, False, False, True]
    rows = [[8, 16, 3, 5, True, 2, 2], [16, 16, 3, 0, True, 1, 2, attention]]
    head = {"block_name": "convbn", "num_blocks": 1, "block_specs": [[32, 48, 1, 1]]}
    model = models.MobileNet_V4(tiny(layer2__block_specs=rows, head=head), 5)
    check(settled(model, 3, 64, 64), (2, 3, 64, 48))


def test_features_only(threads):
    model = models.MobileNet_V4(tiny(), features_only=True, out_indices=(0, 2, 5))
    compiled = check(settled(model, 3, 32, 32), (2, 3, 40, 32))
    assert isinstance(compiled(np.zeros((1, 3, 40, 32), np.float32)), list)


@pytest.mark.parametrize("batch", [5, 12, 14, 18])
def test_batches_that_go_in_groups(batch, threads):
    """Large maps of a few images at a time, the rest of the whole batch."""
    lucid.manual_seed(0)
    model = settled(models.MobileNet_V4(tiny(), 5), 3, 64, 64)
    compiled = check(model, (batch, 3, 64, 64), batches=[batch, 2])
    x = np.random.default_rng(0).standard_normal((batch, 3, 64, 64)).astype(np.float32)
    steps = compiled.timed(x)
    assert sum(info.macs for info, _ in steps) == lucid.summary(model, x.shape).total_macs
    assert all(seconds > 0 for info, seconds in steps if info.macs)


@pytest.mark.parametrize("batch", [1, 6])
def test_input_of_any_layout_at_any_place(batch, threads):
    lucid.manual_seed(0)
    model = settled(models.MobileNet_V4(tiny(), 5), 3, 32, 32)
    compiled = lucid.compile(model, (batch, 3, 32, 32))
    wide = np.random.default_rng(0).standard_normal((2 * batch, 4, 40, 64)).astype(np.float32)
    part = wide[::2, :3, 4:36, ::2]
    channels_last = np.ascontiguousarray(part.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    with lucid.no_grad():
        expected = model(lucid.tensor(part.copy())).numpy()
        mirrored = model(lucid.tensor(part[::-1, :, :, ::-1].copy())).numpy()
    for x, y in [
        (part, expected),
        (part[::-1, :, :, ::-1], mirrored),
        (part.copy(), expected),
        (channels_last, expected),
        (part, expected),
    ]:
        np.testing.assert_allclose(compiled(x), y, rtol=1e-4, atol=1e-4)


def test_maps_of_all_images_that_a_group_writes(threads):
    """Results in the middle, and a sum with a map from before the last of the group."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 8, 3, padding=1)
            self.third = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            a = self.first(x)
            b = self.second(a)
            c = self.third(b) + a
            return c, b, (a * c).mean((2, 3)), x

    check(Branches().eval(), (16, 3, 24, 20), batches=[16, 8, 7])


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_pixels_with_gaps(backend, batch, threads):
    """Maps of 512 channels, read by layers that may find gaps between pixels and others."""

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.expand = nn.Conv2d(3, 512, 1)
            self.taps = nn.Conv2d(512, 512, 3, padding=1, groups=512)
            self.strided = nn.Conv2d(512, 512, 5, stride=2, padding=2, groups=512)
            self.mix = nn.Conv2d(512, 512, 1)
            self.dense = nn.Conv2d(512, 4, 3, padding=1)
            self.last = nn.Conv2d(512, 8, 1)

        def forward(self, x):
            a = nn.functional.relu(self.expand(x))
            b = nn.functional.gelu(self.taps(a))
            c = self.mix(b) + a  # what is added, and what others read, has none: a and c
            d = nn.functional.silu(self.taps(self.mix(c)))
            return self.dense(c), self.last(self.strided(d)), c.mean((2, 3))

    lucid.manual_seed(0)
    compiled = check(Wide().eval(), (batch, 3, 9, 7), batches=[batch])
    plan = next(iter(compiled._plans.values()))
    assert len(plan.arena.gaps) == (4 if backend == "numba" else 0)


@pytest.fixture
def few_threads():
    """Set the number of threads for one test."""
    before = kernels.get_num_threads()
    yield kernels.set_num_threads
    kernels.set_num_threads(before)


@pytest.mark.parametrize(
    ("batch", "count", "lanes"),
    [(16, 2, 2), (7, 2, 2), (16, 3, 3), (4, 5, 1), (9, 4, 1), (6, 6, 6)],
)
def test_each_thread_takes_images_through_memory_of_its_own(
    backend, batch, count, lanes, few_threads
):
    """If they divide the batch well; whatever the number of threads is later."""
    lucid.manual_seed(0)
    model = settled(models.MobileNet_V4(tiny(), 5), 3, 64, 64)
    few_threads(count)
    compiled = check(model, (batch, 3, 64, 64), batches=[batch])
    for plan in compiled._plans.values():
        assert len(plan.arena.lanes) == (lanes if backend == "numba" else 1)
    x = np.random.default_rng(0).standard_normal((2 * batch, 3, 64, 128)).astype(np.float32)
    x = x[::-2, :, :, ::2]
    with lucid.no_grad():
        expected = model(lucid.tensor(x.copy())).numpy()
    for now in (count, 1, count + 3, count):
        few_threads(now)
        for images in (x, x.copy(), x):
            np.testing.assert_allclose(compiled(images), expected, rtol=1e-4, atol=1e-4)
        compiled.timed(x)


def test_lanes_hold_apart_what_threads_write(backend, few_threads):
    if backend != "numba":
        pytest.skip("one group of images after the other")
    few_threads(3)
    model = settled(models.MobileNet_V4(tiny(), 5), 3, 64, 64)
    (plan,) = lucid.compile(model, (9, 3, 64, 64))._plans.values()
    lanes = plan.arena.lanes
    assert len(lanes) == 3
    assert len(lanes[0]) > 3
    for first, second in itertools.combinations(lanes, 2):
        assert first.keys() == second.keys()
        for a, b in itertools.product(first.values(), second.values()):
            assert not np.shares_memory(a, b)


def test_a_step_that_the_backend_leaves_to_numpy_among_the_first(threads):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding=1),
    )
    check(model.eval(), (8, 3, 24, 20), batches=[8, 6])


def test_no_memory_for_the_large_maps_of_all_images(threads):
    model = models.mobilenet_v4_conv_small(num_classes=7).eval()
    largest = 32 * 48 * 48 * 4  # bytes of one image's
    assert lucid.compile(model, (64, 3, 96, 96)).arena_bytes < 64 * largest


def test_everything_is_fused():
    """conv_small is its 46 convolutions, pooling, reshaping and the classifier, one more."""
    compiled = lucid.compile(models.mobilenet_v4_conv_small(), (1, 3, 64, 64))
    (plan,) = compiled._plans.values()
    kinds = [type(step) is Convolution for step in plan.steps]
    assert kinds == [True] * 46 + [False] * 2 + [True]


class _Attends(nn.Module):
    """Attention of rows, with a factor at one of several places, and perhaps a look inside."""

    def __init__(self, place, look=False):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 10)
        self.place, self.look = place, look

    def forward(self, x):
        n, rows, _ = x.shape
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.place.startswith(("queries", "both")):
            q = q * 0.3
        if self.place.startswith(("keys", "both")):
            k = k * 1.7
        if "heads" in self.place:
            q, k, v = (t.reshape(n, rows, 2, -1).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-2, -1)
        if self.place == "scores":
            scores = scores * 0.3
        if self.place == "a vector":
            scores = scores * lucid.tensor(np.linspace(0, 1, rows, dtype=np.float32))
        weights = scores.softmax(1 if self.place == "axis 1" else -1)
        y = weights @ v
        return (y, weights) if self.look else y


@pytest.mark.parametrize(
    ("model", "fused"),
    [
        (_Attends("none"), 1),
        (_Attends("queries"), 1),
        (_Attends("queries, then in heads"), 1),
        (_Attends("keys"), 1),
        (_Attends("keys, then in heads"), 1),
        (_Attends("both, then in heads"), 1),
        (_Attends("heads"), 1),
        (_Attends("scores"), 1),
        (_Attends("a vector"), 0),
        (_Attends("axis 1"), 0),
        (_Attends("none", look=True), 0),
    ],
    ids=lambda value: getattr(value, "place", None),
)
def test_attention(model, fused, threads):
    compiled = check(model.eval(), (3, 40, 6))
    for plan in compiled._plans.values():
        assert sum(type(step) is Attention for step in plan.steps) == fused
        assert sum(info.kind == "Mul" for info in plan.infos) == (model.place == "a vector")


def test_attention_of_one_map_with_itself():
    """Queries, keys and values are views of one map, which lives as long as they are needed."""

    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x):
            y = self.conv(x)
            n, c, h, w = y.shape
            rows = y.permute(0, 2, 3, 1).reshape(n, h * w, c)
            attended = ((rows * 0.5) @ rows.transpose(1, 2)).softmax(-1) @ rows
            return self.last(attended.reshape(n, h, w, c).permute(0, 3, 1, 2)) + self.last(y)

    compiled = check(Attend().eval(), (2, 3, 9, 7))
    assert any(type(step) is Attention for step in next(iter(compiled._plans.values())).steps)


def test_the_model_is_left_untouched():
    model = models.MobileNet_V4(tiny(), 3)
    model.layers[0].eval()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    lucid.manual_seed(5)
    expected = lucid.rand(3).numpy()
    lucid.manual_seed(5)
    lucid.compile(model, (2, 3, 32, 32))(np.zeros((2, 3, 32, 32), np.float32))
    np.testing.assert_array_equal(lucid.rand(3).numpy(), expected)
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])


def test_later_changes_have_no_effect():
    model = settled(models.MobileNet_V4(tiny(), 3), 3, 32, 32)
    compiled = lucid.compile(model, (3, 3, 32, 32))
    x = np.ones((3, 3, 32, 32), np.float32)
    first = compiled(x)
    with lucid.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    np.testing.assert_array_equal(compiled(x), first)
    np.testing.assert_allclose(compiled(x[:2]), first[:2], rtol=1e-5)  # a plan made only now


def test_results_outlive_the_next_call(threads):
    compiled = lucid.compile(models.MobileNet_V4(tiny(), 0, features_only=True), (2, 3, 32, 32))
    first = compiled(np.ones((2, 3, 32, 32), np.float32))
    copies = [array.copy() for array in first]
    compiled(np.full((2, 3, 32, 32), -3, np.float32))
    for array, copy in zip(first, copies):
        np.testing.assert_array_equal(array, copy)


def test_the_input_is_not_written(threads):
    compiled = lucid.compile(models.MobileNet_V4(tiny(), 2), (2, 3, 32, 32))
    x = np.ones((2, 3, 32, 32), np.float32)
    x.flags.writeable = False
    compiled(x)
    compiled(x.transpose(0, 1, 3, 2))


def test_float64():
    model = settled(models.MobileNet_V4(tiny(), 2), 3, 32, 32).double()
    compiled = lucid.compile(model, (1, 3, 32, 32))
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32))
    with lucid.no_grad():
        expected = model(lucid.tensor(x, np.float64)).numpy()
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-10)


# -- models of users --------------------------------------------------------------------------


class Residual(nn.Module):
    """The residual is younger than the convolution it is added to."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, padding=1)
        self.b = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())

    def forward(self, x):
        first = self.a(x)
        second = self.b(x).tanh()
        return first + second


class UsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return {"norm": self.norm(y).relu(), "both": [y, self.conv(y) + y], "twice": y + y}


class FactorsAfterLinear(nn.Module):
    """Factors of a channel's shape and of another that broadcasts to four axes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(192, 3)
        self.factors = nn.Parameter(np.array([1.0, 2.0, 3.0]))

    def forward(self, x):
        y = self.linear(x.flatten(1))
        return y * self.factors.reshape(1, 3), y * self.factors.reshape(1, 3, 1, 1)


class OnRawArrays(nn.Module):
    """What operations do not show: the values go through NumPy."""

    def forward(self, x):
        return lucid.tensor(np.sort(x.detach().numpy(), axis=-1)) * 2


class ChoosesByValue(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.detach().sum()) > 0 else x - 1


class ChangesInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.conv(x)
        y += 1
        return y * y


class WholeBatch(nn.Module):
    """The images of a batch depend on each other."""

    def forward(self, x):
        return x - x.mean(0, keepdim=True)


class ToOneNumber(nn.Module):
    def forward(self, x):
        return (x * x).mean()


class Around(nn.Module):
    """A network with something else in the middle."""

    def __init__(self, inner):
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6())
        self.inner = inner
        self.after = nn.Flatten()

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


@pytest.mark.parametrize(
    "model",
    [
        Residual(),
        UsedTwice(),
        FactorsAfterLinear(),
        nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5), nn.ReLU()),
        OnRawArrays(),
        ChangesInPlace(),
        WholeBatch(),
        ToOneNumber(),
        nn.Identity(),
        nn.Sequential(nn.Dropout(0.5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 3)),
        nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.GELU("tanh"), nn.GroupNorm(2, 6)),
        nn.Sequential(nn.Conv2d(3, 3, 3, dilation=2, padding="same", groups=3), nn.SiLU()),
        Around(OnRawArrays()),
        Around(WholeBatch()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_models_of_users(model, threads):
    check(settled(model, 3, 8, 8), (3, 3, 8, 8))


@pytest.mark.parametrize("width", [0, 3], ids="{} behind nothing".format)
def test_a_layer_without_outputs(width, threads):
    layers = [nn.Flatten(), nn.Linear(192, 0), nn.ReLU()] + [nn.Linear(0, width)] * (width > 0)
    model = nn.Sequential(*layers).eval()
    if width:
        layers[-1].bias = nn.Parameter(lucid.tensor([1.0, -2.0, 3.0]))
    check(model, (3, 3, 8, 8))


def test_a_choice_by_value():
    compiled = lucid.compile(Around(ChoosesByValue()), (1, 3, 8, 8))
    model = compiled._model
    for value in (5.0, -5.0):
        x = np.full((1, 3, 8, 8), value, np.float32)
        with lucid.no_grad():
            expected = model(lucid.tensor(x)).numpy()
        np.testing.assert_allclose(compiled(x), expected, rtol=1e-5, atol=1e-6)


def test_unknown_modules_run_as_themselves_and_the_rest_is_planned():
    compiled = lucid.compile(Around(OnRawArrays()).eval(), (1, 3, 8, 8))
    (plan,) = compiled._plans.values()
    kinds = [type(getattr(step, "kind", step)).__name__ for step in plan.steps]
    assert kinds[:2] == ["Convolution", "OnRawArrays"]


# -- threads ----------------------------------------------------------------------------------


def test_several_threads_and_two_models():
    lucid.manual_seed(0)
    small = settled(models.MobileNet_V4(tiny(), 3), 3, 32, 32)
    other = settled(models.MobileNet_V4(tiny(), 4), 3, 32, 32)
    compiled = [lucid.compile(small, (2, 3, 32, 32)), lucid.compile(other, (2, 3, 32, 32))]
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    expected = [c(x) for c in compiled]
    wrong = []

    def work(index):
        for _ in range(20):
            # Not to the last bit: which calls divide their batch depends on the others.
            if not np.allclose(compiled[index % 2](x), expected[index % 2], 1e-4, 1e-5):
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("batch", [1, 2])
def test_the_same_input_gives_the_same_bits(batch, few_threads):
    """Also while others keep the processor busy, and products wait for a core now and then."""
    few_threads(2)
    lucid.manual_seed(0)
    compiled = lucid.compile(models.mobilenet_v4_conv_small(), (batch, 3, 64, 64))
    x = np.random.default_rng(0).standard_normal((batch, 3, 64, 64)).astype(np.float32)
    expected = compiled(x)
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            sum(range(1000))

    others = [threading.Thread(target=keep_busy) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for _ in range(8):
            np.testing.assert_array_equal(compiled(x), expected)
    finally:
        stop.set()
        for other in others:
            other.join()


# -- arguments --------------------------------------------------------------------------------


def test_wrong_arguments():
    model = models.MobileNet_V4(tiny(), 3)
    with pytest.raises(TypeError, match="compile: expected a Module, got str"):
        lucid.compile("conv_small", (1, 3, 32, 32))
    with pytest.raises(TypeError, match="input_shape must be a sequence of integers, got 'x'"):
        lucid.compile(model, "x")
    with pytest.raises(TypeError, match=r"got Tensor of shape \(1, 3, 32, 32\)$"):
        lucid.compile(model, lucid.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="sizes in input_shape must be positive"):
        lucid.compile(model, (0, 3, 32, 32))
    with pytest.raises(ValueError, match=r"Conv2d: expected 3 input channels \(axis 1\), got 4"):
        lucid.compile(model, (1, 4, 32, 32))


def test_wrong_inputs():
    compiled = lucid.compile(models.MobileNet_V4(tiny(), 3), (2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"expected an input of shape \(2, 3, 32, 32\).* got"):
        compiled(np.zeros((2, 3, 32, 33), np.float32))
    with pytest.raises(ValueError, match=r"expected a batch of 1 to 2 \(axis 0\), got 3"):
        compiled(np.zeros((3, 3, 32, 32), np.float32))
    with pytest.raises(ValueError, match="expected a batch of 1 to 2"):
        compiled(np.zeros((0, 3, 32, 32), np.float32))
    with pytest.raises(TypeError, match="expected an input of dtype float32, got float64"):
        compiled(np.zeros((1, 3, 32, 32)))


# -- the arena --------------------------------------------------------------------------------


def test_maps_that_live_together_do_not_overlap():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lives = []
        for first in range(20):
            lives.append(Life(int(rng.integers(1, 1000)), first, first + int(rng.integers(0, 6))))
        total = place(lives)
        for a in lives:
            assert a.offset % 64 == 0
            assert a.offset + a.size <= total
            for b in lives:
                together = a is not b and a.first <= b.last and b.first <= a.last
                if together:
                    assert a.offset + a.size <= b.offset or b.offset + b.size <= a.offset


def test_a_chain_needs_two_maps():
    """Each map is needed only for the next one, so the two largest neighbours are enough."""
    lives = [Life(640, i, i + 1) for i in range(30)]
    assert place(lives) == 1280


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if "small" in name else SLOW) for name in models.list_models()],
)
def test_steps_say_what_they_are(name):
    """Their multiply-adds are those that the modules' own formulas give."""
    model = models.create_model(name, num_classes=7).eval()
    shape = (2, 3, 32, 32)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    steps = lucid.compile(model, shape).timed(x)
    assert sum(info.macs for info, _ in steps) == lucid.summary(model, shape).total_macs
    first, last = steps[0][0], steps[-1][0]
    released = "gelu" if "hybrid_large" in name else "relu"
    act = "relu6" if name.startswith("mobilenet_v4_") else released
    assert (first.name, first.kind) == ("conv0.convbn_0.conv", f"conv 3×3 /2 + {act}")
    assert (last.name, last.kind, last.shape) == ("classifier", "linear", (2, 7))
    assert all(seconds >= 0 for _, seconds in steps)


def test_timing_leaves_the_plan_as_it_was(threads):
    model = settled(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten()), 3, 64, 64)
    compiled = lucid.compile(model, (4, 3, 64, 64))
    x = np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32)
    expected = compiled(x)
    infos = [info for info, _ in compiled.timed(x)]
    assert [info.kind for info in infos] == ["conv 3×3", "Reshape"]
    assert infos[0].shape == (4, 8, 64, 64)
    np.testing.assert_array_equal(compiled(x), expected)
    with pytest.raises(ValueError, match="expected an input of shape"):
        compiled.timed(x[:, :2])


def test_memory_of_the_traced_run_is_given_back():
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 1))
    _memory.trim()
    before = _memory._pool.held
    lucid.compile(model, (8, 3, 64, 64))
    one_map = 8 * 64 * 64 * 64 * 4
    assert _memory._pool.held - before < one_map


def test_the_traced_run_keeps_no_map_longer_than_the_model_does():
    maps, alive = [], []

    class Watch(nn.Module):
        def forward(self, x):
            maps.append(weakref.ref(x))
            alive.append(sum(reference() is not None for reference in maps))
            return x

    layers = [layer for _ in range(6) for layer in (nn.Conv2d(4, 4, 3), nn.ReLU(), Watch())]
    lucid.compile(nn.Sequential(*layers), (2, 4, 32, 32))
    assert len(alive) >= 12  # both runs
    assert max(alive) == 1


def test_compiling_takes_its_weights_no_more_than_twice():
    """Once as the copy that is traced, once as the kernels read them."""
    width = 1 << 11
    layers = [nn.Linear(width, 128) if i % 2 else nn.Linear(128, width) for i in range(10)]
    model = nn.Sequential(*layers).eval()
    weights = sum(parameter.data.nbytes for parameter in model.parameters())
    model(lucid.zeros(1, 128)).sum().backward()  # gradients are of no use to a plan
    lucid.compile(nn.Linear(2, 2), (1, 2))  # what is imported on demand
    gc.collect()
    gc.disable()  # nothing waits for it
    tracemalloc.start()
    pool = _memory._pool.held
    try:
        compiled = lucid.compile(model, (1, 128))
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    recycled = _memory._pool.held - pool
    assert most + recycled < 2.5 * weights
    assert kept + recycled < 2.2 * weights  # the model's copy, and the plan's
    assert compiled._model is not model


def packed(steps):
    return [step.packed for step in steps if isinstance(step, Convolution)]


def test_plans_of_several_sizes_share_their_weights(backend, threads):
    model = settled(models.MobileNet_V4(tiny(), 3), 3, 32, 32)
    compiled = lucid.compile(model, (5, 3, 32, 32))
    x = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    for count in (5, 4, 1, 3):
        with lucid.no_grad():
            expected = model(lucid.tensor(x[:count])).numpy()
        np.testing.assert_allclose(compiled(x[:count]), expected, rtol=1e-4, atol=1e-5)
    first, *others = [packed(steps) for (_, steps, _), _ in compiled._steps.values()]
    assert len(others) >= 2
    for other in others:
        assert all(a is b for a, b in zip(first, other, strict=True))


def test_without_the_module_a_smaller_batch_is_filled_up(threads):
    model = settled(models.MobileNet_V4(tiny(), 3), 3, 32, 32)
    x = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    with lucid.no_grad():
        expected = model(lucid.tensor(x)).numpy()
    alive = weakref.ref(model)
    compiled = lucid.compile(model, (5, 3, 32, 32), keep_module=False)
    del model
    gc.collect()
    assert alive() is None
    for count in (2, 5, 1):
        np.testing.assert_allclose(compiled(x[:count]), expected[:count], rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="compile with keep_module=True"):
        pickle.dumps(compiled)


def test_without_the_module_images_that_depend_on_each_other_are_not_filled_up():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            y = self.linear(x)
            return y - y.mean(0)

    model = Centred().eval()
    compiled = lucid.compile(model, (4, 3), keep_module=False)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    expected = model(lucid.tensor(x)).detach().numpy()
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"for 2 is no part of that for 4.*keep_module=True"):
        compiled(x[:2])


def test_a_model_of_which_a_part_runs_as_itself_is_kept():
    model = Around(OnRawArrays()).eval()
    compiled = lucid.compile(model, (3, 3, 8, 8), keep_module=False)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    with lucid.no_grad():
        expected = model(lucid.tensor(x)).numpy()
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-5, atol=1e-6)


def test_plans_hold_their_weights_once():
    """The model's copy has others; a plan has them as the kernels read them."""
    compiled = lucid.compile(models.mobilenet_v4_conv_small(num_classes=7), (1, 3, 64, 64))
    (plan,) = compiled._plans.values()
    before = [step.weight for step in plan.steps if isinstance(step, Convolution)]
    assert before
    assert sum(array.nbytes for array in before) == 0


class Heads(nn.Module):
    """What ``ends`` makes of a map."""

    def __init__(self, ends):
        super().__init__()
        self.conv, self.ends = nn.Conv2d(3, 4, 3), ends

    def forward(self, x):
        return self.ends(self.conv(x), x)


ROW = np.arange(4, dtype=np.float32)
# What becomes of a map ``(4, 4, 4, 4)``, and whether that goes image by image.
ENDS = {
    "rows": (lambda y, x: y.flatten(1), True),
    "the batch's size": (lambda y, x: y * len(y), True),
    "the batch's size as a result": (lambda y, x: (y, len(y)), True),
    "numbers for columns": (lambda y, x: y + lucid.tensor(ROW), True),
    "numbers for images": (lambda y, x: y + lucid.tensor(ROW.reshape(4, 1, 1, 1)), False),
    "images as columns": (lambda y, x: y.transpose(0, 3) * 2, False),
    "images and channels changed": (lambda y, x: y.flatten(2).transpose(0, 1), False),
    "all images on one axis": (lambda y, x: y.reshape(2, 2, 4, 16), False),
    "means as rows": (lambda y, x: y + y.mean((1, 2, 3)), False),
    "a mean over images": (lambda y, x: y - y.mean(0, keepdim=True), False),
    "a constant": (lambda y, x: (y, lucid.ones(4, 2)), False),
    "its own attention": (lambda y, x: y.flatten(2).softmax(-1) @ y.flatten(2).mT, None),
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("keep", [True, False])
def test_only_what_goes_by_image_is_divided(name, keep, backend, few_threads):
    ends, by_image = ENDS[name]
    few_threads(2)
    model = Heads(ends).eval()
    compiled = lucid.compile(model, (4, 3, 6, 6), keep_module=keep)
    if by_image is not None:
        assert len(compiled._plans) == (2 if by_image and backend == "numpy" else 1)
    for count in (4, 2, 3, 1) if keep and by_image else (4,):
        x = lucid.randn(count, 3, 6, 6)
        with lucid.no_grad():
            expected = model(x)
        for a, b in zip(leaves(compiled(x)), leaves(expected), strict=True):
            if isinstance(b, int):
                assert a == b
            else:
                np.testing.assert_allclose(a.data, b.data, rtol=1e-4, atol=1e-5)
