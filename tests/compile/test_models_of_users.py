"""Compiled models that do more than operations show: they do what they do by themselves.

Each runs several times, on inputs of all kinds and sizes, beside the same model by itself.
"""

import collections
import copy
import itertools
import random
from dataclasses import dataclass

import numpy as np
import pytest

import lucid
from lucid import kernels, nn
from lucid.graph import leaves
from tests.backends import on_backend, with_threads

SHAPE = (3, 3, 6, 5)


@pytest.fixture(params=kernels.available_backends(), autouse=True)
def backend(request):
    with on_backend(request.param), with_threads(2):
        yield request.param


class Block(nn.Module):
    """A convolution, and what a test adds to it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("calls", lucid.zeros(1))
        self.register_buffer("mean", lucid.zeros(1, 3, 1, 1))
        self.count, self.kept, self.counter = 0, None, itertools.count()


def block(forward):
    """Return a function that makes a block with that forward."""

    def make():
        return type(forward.__name__, (Block,), {"forward": forward})()

    return make


# -- changes in place -----------------------------------------------------------------------------


def subtracts_from_its_input(self, x):
    x -= 0.5
    return self.conv(x)


def writes_a_part_of_its_input(self, x):
    x[:, 0] = 0
    return self.conv(x)


def clamps_by_way_of_detach(self, x):
    x.detach().clamp_(0, 1)
    return self.conv(x)


def changes_its_input_last(self, x):
    y = self.conv(x)
    x.zero_()
    return y


def writes_by_way_of_data(self, x):
    x.data[...] = x.data * 2
    return self.conv(x)


def writes_by_way_of_numpy(self, x):
    x.numpy()[:, 1] = 7
    return self.conv(x)


def subtracts_from_data(self, x):
    x.data -= 1
    return self.conv(x)


def changes_a_map(self, x):
    y = self.conv(x)
    y += 1
    y[:, :, 0] = 0
    return y * y


def changes_a_view_of_a_map(self, x):
    y = self.conv(x)
    y[:, 1].mul_(3)
    y.flatten(1).detach().clamp_(-1, 1)
    return y + x


def changes_a_parameter(self, x):
    self.conv.weight.mul_(0.5)
    return self.conv(x)


def negates_a_parameter_by_way_of_data(self, x):
    self.conv.weight.data[...] *= -1  # after two calls all is as it was
    return self.conv(x)


def changes_a_buffer_and_back(self, x):
    self.calls.fill_(1)
    y = self.conv(x) + self.calls
    self.calls.zero_()
    return y


def sometimes_changes_its_input(self, x):
    if float(x.max()) > 30:
        x -= 100
    return self.conv(x)


# -- what is kept between calls -------------------------------------------------------------------


def counts_in_a_buffer(self, x):
    self.calls += 1
    return self.conv(x) * self.calls


def counts_in_an_attribute(self, x):
    self.count += 1
    return self.conv(x) * self.count


def counts_and_hardly_says(self, x):
    self.count += 1
    return self.conv(x) if self.count < 4 else x


def is_as_before_after_two_calls(self, x):
    self.count = 1 - self.count
    return self.conv(x) * (1 + self.count)


def counts_in_an_iterator(self, x):
    return self.conv(x) + next(self.counter)


def keeps_running_means(self, x):
    self.mean.mul_(0.9).add_(x.mean((0, 2, 3), keepdim=True) * 0.1)
    return self.conv(x - self.mean)


def keeps_the_last_input(self, x):
    last, self.kept = self.kept, x.clone()
    return self.conv(x) if last is None else self.conv(x) + last.mean()


def keeps_what_came_first(self, x):
    if self.kept is None:
        self.kept = x.mean()
    return self.conv(x) - self.kept


def keeps_a_table(self, x):
    if self.kept is None:
        self.kept = lucid.arange(5) * 0.5
    return self.conv(x) + self.kept


def returns_a_counter(self, x):
    self.calls += 1
    return self.conv(x), self.calls


def sets_a_flag(self, x):
    self.kept = self.kept or bool((x > 30).any())
    return self.conv(x) if self.kept else x


# -- random numbers -------------------------------------------------------------------------------


def drops_always(self, x):
    return nn.functional.dropout(self.conv(x), 0.5)


def adds_noise(self, x):
    return self.conv(x) + lucid.randn(1)


def draws_from_numpy(self, x):
    return self.conv(x) * (2 if np.random.rand() < 0.5 else 3)  # noqa: NPY002


def draws_from_python(self, x):
    return self.conv(x) * (2 if random.random() < 0.5 else 3)


# -- choices by value -----------------------------------------------------------------------------


def asks_for_the_truth(self, x):
    return self.conv(x) if (x > 30).any() else x


def asks_for_a_number(self, x):
    return self.conv(x) * 2 if self.conv(x).sum().item() > 1000 else x


def asks_the_array(self, x):
    return self.conv(x) * 2 if x.data.max() > 30 else x


def replaces_nan(self, x):
    return lucid.where(lucid.isnan(x), 0.0, x) + 1


def replaces_zeros(self, x):
    return lucid.where(x == 0, 5.0, x)


def fills_where_large(self, x):
    return self.conv(x).masked_fill(x > 30, -1.0)


def takes_the_largest(self, x):
    y = self.conv(x).flatten(1)
    return y.max(1), y.argmax(1), y.topk(3)[0], y.sort(1)[1]


def looks_up(self, x):
    rows = (x[:, 0, 0, 0] > 0).astype(np.int64)
    return self.mean.flatten()[rows] + lucid.tensor([[1.0], [2.0]])[rows]


def chooses_by_all_images(self, x):
    return lucid.where(x.max() > 30, self.conv(x), x)


def returns_a_number(self, x):
    y = self.conv(x)
    return y, float(y.mean()), int((x > 30).sum()), [None, "name", True]


def returns_what_a_choice_gives(self, x):
    return [self.conv(x)] * (1 if x.data.mean() < 5 else 2)


def catches_an_error(self, x):
    try:
        return self.conv(x) + self.conv(x[:, :2])
    except ValueError:
        return self.conv(x)


# -- what comes back ------------------------------------------------------------------------------


def returns_its_input(self, x):
    return x


def returns_views_of_its_input(self, x):
    return x.flatten(1), x[:, 0], x.transpose(2, 3), x.detach(), x


def returns_one_thing_twice(self, x):
    y = self.conv(x)
    return y, y, {"again": [y, y.flatten(1)]}


def returns_constants(self, x):
    return lucid.ones(2), self.conv.bias, self.mean, 3, None, "name"


Pair = collections.namedtuple("Pair", "first, second")


def returns_named_tuples(self, x):
    y = self.conv(x)
    return Pair(y, collections.OrderedDict(b=y + 1, a=(y.max(),)))


@dataclass
class Result:
    value: object


def returns_a_class_of_its_own(self, x):
    return Result(self.conv(x))


def passes_a_class_of_its_own(self, x):
    return block(returns_a_class_of_its_own)().forward.__func__(self, x)


NAMES = [
    value
    for value in list(globals().values())
    if getattr(value, "__code__", None) and value.__code__.co_varnames[:2] == ("self", "x")
]


# -- modules within modules -----------------------------------------------------------------------


class Around(nn.Module):
    """A model with a block deep inside, at an input of its own or at the model's."""

    def __init__(self, inner, first=None):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1) if first is None else first
        self.inner = nn.ModuleList([nn.Sequential(inner)])
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.first(x)
        result = self.inner[0](y)
        first = next(leaf for leaf in leaves(result))
        first = first.value if isinstance(first, Result) else first
        return result, self.last(y) + first.mean(), x


def inputs():
    rng = np.random.default_rng(5)
    usual = rng.standard_normal(SHAPE).astype(np.float32)
    yield usual
    yield np.zeros(SHAPE, np.float32)
    yield usual[:2] + 50
    large = usual.copy()
    large[1] *= 40
    yield large
    some = usual.copy()
    some[0, 0, 0, :2] = np.nan, np.inf
    yield some
    yield -usual[:1] * 100
    yield usual * 2


def array_of(value):
    return value.data if isinstance(value, lucid.Tensor) else value


def same(got, expected, given):
    kinds = (type(given), lucid.Tensor)
    got, expected = list(leaves(got)), list(leaves(expected))
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        if isinstance(b, Result):
            a, b = a.value, b.value
        if isinstance(b, lucid.Tensor):
            assert isinstance(a, kinds)
            a, b = array_of(a), array_of(b)
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.nanmax(np.abs(b), initial=1))
        else:
            assert a == b or np.allclose(a, b, rtol=1e-4, equal_nan=True)


def seed():
    lucid.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)


def compare(make):
    lucid.manual_seed(0)
    model = make().eval()
    states = [model.state_dict()]
    for as_arrays in (False, True):
        lucid.manual_seed(0)
        model = make().eval()
        compiled = lucid.compile(model, SHAPE)
        states.append({key: value.numpy().copy() for key, value in model.state_dict().items()})
        for x in inputs():
            x.flags.writeable = not as_arrays
            original, theirs = x.copy(), lucid.tensor(x)
            seed()
            with lucid.no_grad():
                expected = model(theirs)
            ours = x if as_arrays else lucid.tensor(x)
            seed()
            got = compiled(ours)
            same(got, expected, ours)
            changed = original if as_arrays else theirs.numpy()
            np.testing.assert_array_equal(np.asarray(ours), changed)
            # What the caller does with the result is nobody else's business.
            for leaf in leaves(got):
                if isinstance(leaf, (np.ndarray, lucid.Tensor)):
                    array = array_of(leaf)
                    assert not np.shares_memory(array, np.asarray(ours))
                    array[...] = 9
    for key, value in states[0].items():
        for state in states[1:]:
            np.testing.assert_array_equal(state[key], value.numpy())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("forward", NAMES, ids=lambda forward: forward.__name__)
def test_alone(forward):
    compare(block(forward))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("forward", NAMES, ids=lambda forward: forward.__name__)
def test_deep_inside(forward):
    compare(lambda: Around(block(forward)()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("forward", NAMES, ids=lambda forward: forward.__name__)
def test_deep_inside_at_the_input(forward):
    compare(lambda: Around(block(forward)(), nn.Identity()))


# -- modules that pass things by other ways than arguments ----------------------------------------


class Reads(nn.Module):
    """Works on what ``source`` kept, by way of NumPy."""

    def __init__(self, source):
        super().__init__()
        self.sources = [source]

    def forward(self, x):
        return lucid.tensor(np.sort(self.sources[0].feature.numpy(), axis=1)) + x


class Keeps(nn.Module):
    def forward(self, x):
        self.feature = x * 2
        return x + 1


class SideWay(nn.Module):
    def __init__(self):
        super().__init__()
        self.keeps = Keeps()
        self.reads = Reads(self.keeps)

    def forward(self, x):
        return self.reads(self.keeps(x))


class Keyword(nn.Module):
    def forward(self, x, *, scale, shift=None):
        return lucid.tensor(np.sort(x.numpy(), axis=1)) * scale + (0 if shift is None else shift)


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.inner = nn.Conv2d(3, 3, 1), Keyword()

    def forward(self, x):
        y = self.conv(x)
        return self.inner(y, scale=y.mean(), shift=y) + self.inner(x, scale=2)


def changes_what_it_is_given(self, x):
    x.data[:, 0] = 1


class ChangesInOneUsesInAnother(nn.Module):
    def __init__(self):
        super().__init__()
        self.changes, self.uses = block(changes_what_it_is_given)(), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = x * 2
        self.changes(y)
        return self.uses(y), y


class NotRegistered(nn.Module):
    """Its layers are in a list, which a model does not know of."""

    def __init__(self):
        super().__init__()
        self.layers = [block(asks_for_the_truth)(), block(counts_in_an_attribute)()]

    def forward(self, x):
        return self.layers[1](self.layers[0](x))


class Shared(nn.Module):
    """One module at two places, called twice."""

    def __init__(self):
        super().__init__()
        self.one = block(asks_for_the_truth)()
        self.two = nn.Sequential(self.one, nn.ReLU())

    def forward(self, x):
        return self.two(self.one(x)) + self.one(x * 3)


class Recursive(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x, depth=2):
        if depth == 0:
            return x.abs() if x.data.max() > 30 else x * 2
        return self(self.conv(x), depth - 1)


def many():
    """More opaque modules than there are rounds."""
    kinds = itertools.cycle([asks_for_the_truth, replaces_nan, asks_the_array])
    return nn.Sequential(*[block(next(kinds))() for _ in range(20)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [SideWay, Keywords, ChangesInOneUsesInAnother, NotRegistered, Shared, Recursive, many],
    ids=lambda make: make.__name__,
)
def test_other_ways(make):
    compare(make)


def doubles_the_input(model):
    model.inner[0].register_forward_pre_hook(lambda module, args: (args[0] * 2,))


def triples_an_output(model):
    model.first.register_forward_hook(lambda module, args, output: output * 3)


def changes_an_output_in_place(model):
    model.last.register_forward_hook(lambda module, args, output: output.mul_(2))


def chooses_by_value(model):
    model.first.register_forward_hook(lambda module, args, y: y + 1 if y.data.max() > 30 else None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "register",
    [doubles_the_input, triples_an_output, changes_an_output_in_place, chooses_by_value],
    ids=lambda register: register.__name__,
)
def test_hooks(register):
    def make():
        model = Around(block(replaces_nan)())
        register(model)
        return model

    compare(make)


def test_hooks_see_every_call():
    seen = []
    model = Around(nn.ReLU()).eval()
    model.inner[0].register_forward_hook(lambda module, args, y: seen.append(y.numpy().copy()))
    compiled = lucid.compile(model, SHAPE)
    for x in inputs():
        compiled(x)
        with lucid.no_grad():
            model(lucid.tensor(x))
        assert len(seen) == 2
        np.testing.assert_allclose(*seen, rtol=1e-4, atol=1e-4)
        seen.clear()


@pytest.mark.parametrize(
    "forward", [subtracts_from_its_input, clamps_by_way_of_detach, sets_a_flag]
)
def test_the_number_of_runs_is_bounded(forward):
    runs = []

    def counted(self, x):
        runs.append(1)
        assert len(runs) < 100
        return forward(self, x)

    lucid.compile(Around(block(counted)(), nn.Identity()), SHAPE)


def test_compiling_draws_no_random_numbers():
    def draw():
        return [lucid.rand(2).numpy(), np.random.rand(), random.random()]  # noqa: NPY002

    model = Around(nn.Sequential(block(drops_always)(), block(draws_from_numpy)()))
    seed()
    expected = draw()
    seed()
    lucid.compile(model, SHAPE)
    for a, b in zip(draw(), expected):
        np.testing.assert_array_equal(a, b)


class Harmless(nn.Module):
    """A table kept from the first call, detach, and questions about shapes and dtypes."""

    def __init__(self):
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 3, 1), None

    def forward(self, x):
        if self.table is None:
            self.table = lucid.arange(x.shape[-1]) * float(self.conv.weight.sum())
        y = self.conv(x.detach()).detach()
        assert len(y) == x.data.shape[0]
        assert y.data.flags.writeable
        assert y.dtype == np.float32
        return y + self.table


def test_only_what_needs_it_runs_as_itself():
    for plan in lucid.compile(Around(Harmless()), SHAPE)._plans.values():
        assert not plan.has_opaque_steps
    (plan,) = lucid.compile(Around(block(replaces_nan)()), SHAPE)._plans.values()
    assert [type(getattr(step, "kind", step)).__name__ for step in plan.steps[:3]] == [
        "Convolution",
        "replaces_nan",
        "Convolution",
    ]


def refuses_large_values(self, x):
    if x.data.max() > 8:
        raise ValueError("not normalised")
    return self.conv(x)


def test_a_model_that_refuses_values():
    compiled = lucid.compile(block(refuses_large_values)(), SHAPE)
    compiled(np.ones(SHAPE, np.float32))
    with pytest.raises(ValueError, match="not normalised"):
        compiled(np.full(SHAPE, 9, np.float32))


def test_a_model_that_cannot_be_copied():
    model = Around(nn.ReLU())
    model.generator = (i for i in range(3))
    with pytest.raises(TypeError, match="compile: expected a model that can be copied, got Around"):
        lucid.compile(model, SHAPE)
    model.generator = model.first(lucid.ones(1, 3, 2, 2))
    with pytest.raises(RuntimeError, match="can be copied, got Around: deepcopy works on leaves"):
        lucid.compile(model, SHAPE)


# -- the weights of the model ---------------------------------------------------------------------


class Adapts(nn.Module):
    """Takes a step of training before each answer, with an optimiser of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.optimizer = lucid.optim.SGD(self.conv.parameters(), 0.1)

    def forward(self, x):
        with lucid.enable_grad():
            self.conv(x.detach()).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.conv(x)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_trains_itself():
    compare(Adapts)


def returns_a_weight(self, x):
    return self.conv(x), self.conv.bias


def works_on_arrays_of_weights(self, x):
    return self.conv(x) + float(self.conv.weight.data.sum()) + lucid.tensor(np.sort(x.numpy()))


@pytest.mark.parametrize("forward", [returns_a_weight, works_on_arrays_of_weights])
@pytest.mark.parametrize("keep", [True, False])
def test_later_changes_of_the_weights_have_no_effect(forward, keep):
    model = Around(block(forward)()).eval()
    compiled = lucid.compile(model, SHAPE, keep_module=keep)
    x = lucid.randn(*SHAPE)
    with lucid.no_grad():
        expected = copy.deepcopy(model(x))
        for parameter in model.parameters():
            parameter.fill_(7)
    same(compiled(x), expected, x)
