"""Inference keeps folded weights: whatever changes them, the result is that of a fresh model."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid
from lucid import kernels, nn, optim

TENSORS = [
    "conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"
]  # fmt: skip


def build(act=nn.ReLU6):
    layers = {"conv": nn.Conv2d(3, 5, 3, padding=1), "norm": nn.BatchNorm2d(5), "act": act()}
    model = nn.Sequential({**layers, "last": nn.Conv2d(5, 4, 1), "scaled": nn.BatchNorm2d(4)})
    for path in TENSORS[1:]:
        change(get(model, path).data, np.random.default_rng(0))
    return model.eval()


def images(seed=0, count=2, size=6):
    rng = np.random.default_rng(seed)
    return lucid.tensor(rng.standard_normal((count, 3, size, size)).astype(np.float32))


def run(model, x):
    with lucid.no_grad():
        return model(x).numpy()


def by_definition(model, x):
    """Return what the layers give one by one, in a model made anew of the values."""
    fresh = build()
    with lucid.no_grad():
        for (_, mine), (_, other) in zip(fresh._named_state(), model._named_state()):
            mine.data[...] = other.data
        fresh[0].stride, fresh[0].padding = model[0].stride, model[0].padding
        fresh[1].eps = model[1].eps
        for layer in fresh:
            x = layer(x)
    return x.numpy()


def get(model, path):
    name, attribute = path.split(".")
    return getattr(getattr(model, name), attribute)


# -- every way to change a value ------------------------------------------------------------------


class Held:
    """What somebody got hold of before, and changes later."""

    def __init__(self):
        self.arrays = []


def change(array, rng):
    array[...] = rng.uniform(0.5, 1.5, array.shape)


def by_data(model, path, rng, held):
    change(get(model, path).data, rng)


def by_new_data(model, path, rng, held):
    tensor = get(model, path)
    tensor.data = rng.uniform(0.5, 1.5, tensor.shape).astype(np.float32)


def by_new_data_that_is_held(model, path, rng, held):
    by_new_data(model, path, rng, held)
    held.arrays.append(get(model, path).data)


def in_place(model, path, rng, held):
    with lucid.no_grad():
        get(model, path).mul_(float(rng.uniform(0.5, 1.5)))


def by_copy(model, path, rng, held):
    tensor = get(model, path)
    with lucid.no_grad():
        tensor.copy_(lucid.tensor(rng.uniform(0.5, 1.5, tensor.shape)))


def by_detached(model, path, rng, held):
    change(get(model, path).detach().numpy(), rng)


def by_view(model, path, rng, held):
    with lucid.no_grad():
        get(model, path)[0] = float(rng.uniform(0.5, 1.5))


def by_array_protocol(model, path, rng, held):
    change(np.asarray(get(model, path).detach()), rng)


def by_dlpack(model, path, rng, held):
    change(np.from_dlpack(get(model, path).detach()).view(), rng)


def by_memory(model, path, rng, held):
    array = get(model, path).data
    change(np.frombuffer(memoryview(array).cast("B"), np.float32), rng)


def by_what_was_held(model, path, rng, held):
    if held.arrays:
        change(held.arrays[int(rng.integers(len(held.arrays)))], rng)


def hold_array(model, path, rng, held):
    held.arrays.append(get(model, path).data)


def hold_view(model, path, rng, held):
    held.arrays.append(get(model, path).data[1:])


def hold_detached(model, path, rng, held):
    tensor = get(model, path).detach()
    held.arrays.append(tensor.numpy())


def let_go(model, path, rng, held):
    held.arrays.clear()


def by_state(model, path, rng, held):
    state = model.state_dict()
    change(state[f"{path}"].data, rng)


def by_loading(model, path, rng, held):
    state = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    change(state[path], rng)
    model.load_state_dict(state)


def by_another_parameter(model, path, rng, held):
    name, attribute = path.split(".")
    shape = get(model, path).shape
    new = nn.Parameter(rng.uniform(0.5, 1.5, shape).astype(np.float32))
    if "running" in path:
        new = new.detach()
    setattr(getattr(model, name), attribute, new)


def by_a_step(model, path, rng, held):
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    model(images(1)).square().mean().backward()
    optimizer.step()


def by_training(model, path, rng, held):
    model.train()
    model(images(2))
    model.eval()


def by_statistics_without_train(model, path, rng, held):
    model.norm.training = True
    run(model, images(2))
    model.norm.training = False


def by_settings(model, path, rng, held):
    model[0].stride = (int(rng.integers(1, 3)),) * 2
    model[1].eps = float(rng.uniform(1e-5, 0.1))


def by_dtype_and_back(model, path, rng, held):
    model.double()
    change(get(model, path).data, rng)
    model.float()


def read_only(model, path, rng, held):
    repr(model.conv.weight), model.norm.weight.sum(), get(model, path).shape
    list(model.parameters()), copy.copy(get(model, path))


WAYS = [
    by_data, by_new_data, by_new_data_that_is_held, in_place, by_copy, by_detached, by_view,
    by_array_protocol, by_dlpack, by_memory, by_what_was_held, by_what_was_held, hold_array,
    hold_view, hold_detached, let_go, by_state, by_loading, by_another_parameter, by_a_step,
    by_training, by_statistics_without_train, by_settings, by_dtype_and_back, read_only,
]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.sampled_from(WAYS), st.sampled_from(TENSORS)), max_size=8),
)
def test_always_as_a_fresh_model(seed, steps):
    rng = np.random.default_rng(seed)
    model, held = build(), Held()
    for way, path in steps:
        run(model, images(3))
        run(model, images(3))
        way(model, path, rng, held)
        for x in (images(4), images(5, 1, 7), images(4)):
            expected = by_definition(copy.deepcopy(model), x)
            np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", [way for way in WAYS if way.__name__.startswith(("by", "in"))])
@pytest.mark.parametrize("path", TENSORS)
def test_each_way(way, path):
    model, x, rng = build(), images(), np.random.default_rng(1)
    held = Held()
    hold_view(model, path, rng, held)
    if way is not by_what_was_held:
        let_go(model, path, rng, held)
    before = run(model, x).copy()
    way(model, path, rng, held)
    np.testing.assert_allclose(run(model, x), by_definition(model, x), rtol=1e-4, atol=1e-5)
    assert not np.array_equal(run(model, x), before)


# -- what is kept, and for how long ---------------------------------------------------------------


@pytest.fixture
def packed(monkeypatch):
    """The shapes of weights, each time that some were brought into another form."""
    shapes, original = [], kernels.active().keep_conv

    def keep_conv(weight, *args):
        shapes.append(weight.shape)
        return original(weight, *args)

    monkeypatch.setattr(kernels.active(), "keep_conv", keep_conv)
    return shapes


def test_weights_are_brought_into_form_once(packed):
    model = build()
    for x in (images(), images(1), images(2, 3, 8), images()):
        run(model, x)
    assert packed == [(5, 3, 3, 3), (4, 5, 1, 1)]


def test_looking_at_shapes_changes_nothing(packed):
    model = build()
    run(model, images())
    assert next((p.shape, p.ndim, p.dtype) for p in model.parameters()) == ((5, 3, 3, 3), 4, "f4")
    run(model, images())
    assert packed == [(5, 3, 3, 3), (4, 5, 1, 1)]


@pytest.mark.parametrize("held", [hold_array, hold_view, hold_detached])
def test_nothing_is_kept_of_what_somebody_holds(held, packed):
    model, holder = build(), Held()
    held(model, "norm.weight", None, holder)
    run(model, images())
    run(model, images())
    assert packed == [(5, 3, 3, 3), (4, 5, 1, 1), (5, 3, 3, 3)]
    holder.arrays.clear()
    for _ in range(2):
        run(model, images())
    assert packed[3:] == [(5, 3, 3, 3)]


def test_of_a_model_that_was_pickled_weights_are_kept_too(packed):
    model = pickle.loads(pickle.dumps(build()))
    run(model, images())
    run(model, images())
    assert packed == [(5, 3, 3, 3), (4, 5, 1, 1)]


def test_nothing_is_kept_of_a_view():
    values = np.ones((2, 5, 3, 3, 3), np.float32)
    model, x = build(), images()
    model.conv.weight.data = values[0]
    before = run(model, x).copy()
    values[...] = 2
    assert not np.array_equal(run(model, x), before)


def test_tied_layers_both_notice():
    model, other = build(), build()
    other.conv.weight = model.conv.weight
    for one in (model, other):
        run(one, images())
    model.conv.weight.data[...] = 3
    for _ in range(2):
        for one in (model, other):
            expected = by_definition(one, images())  # asks for the array of the one that is shared
            np.testing.assert_allclose(run(one, images()), expected, rtol=1e-4, atol=1e-4)


def test_each_of_two_users_of_a_tensor_notices():
    model = build()
    twice = nn.Sequential(model.conv, model.norm).eval()
    run(model, images()), run(twice, images())
    model.norm.bias.data += 1
    before = run(model, images())  # the tensor is watched again
    moved = run(twice, images())
    fresh = nn.Sequential(copy.deepcopy(model.conv), copy.deepcopy(model.norm)).eval()
    np.testing.assert_array_equal(moved, run(fresh, images()))
    assert before.shape[1] == 4


def test_tensors_seem_what_they_are():
    model = build()
    before = [(type(p).__name__, repr(type(p)), type(p).__module__) for p in model.parameters()]
    run(model, images())
    kinds = [(type(p).__name__, repr(type(p)), type(p).__module__) for p in model.parameters()]
    assert kinds == before
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_copies_are_of_the_own_class(copied):
    model = build()
    run(model, images())
    assert type(copied(model.conv.weight)) is nn.Parameter
    assert type(copied(model.norm.running_mean)) is lucid.Tensor
    run(model, images())
    other = copied(model)
    np.testing.assert_array_equal(run(other, images()), run(model, images()))
    other.conv.weight.data[...] = 0.5
    model.norm.bias.data[...] = 0.5
    for one in (model, other):
        result = run(one, images())
        np.testing.assert_allclose(result, by_definition(one, images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["__copy__", "__deepcopy__", "__reduce__"])
def test_a_copy_is_of_the_own_class_when_a_watch_begins_meanwhile(name):
    model = build()
    weight, args = model.conv.weight, [{}] if name == "__deepcopy__" else []
    copied = getattr(weight, name)
    run(model, images())  # as another thread may
    result = copied(*args)
    assert (result[1][0] if name == "__reduce__" else type(result)) is nn.Parameter


def test_training_mode_gives_the_memory_back():
    model = build()
    run(model, images())
    assert "_steps" in vars(model)
    model.train()
    assert "_steps" not in vars(model)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(dtype):
    model = build().to(dtype)
    x = images().astype(dtype)
    with lucid.no_grad():
        expected = x
        for layer in model:
            expected = layer(expected)
        for _ in range(2):
            np.testing.assert_allclose(model(x).numpy(), expected.numpy(), rtol=1e-2, atol=1e-2)


def test_another_backend(packed):
    model = build()
    before, active = run(model, images()), kernels.get_backend()
    try:
        kernels.set_backend("numpy")
        np.testing.assert_allclose(run(model, images()), before, rtol=1e-4, atol=1e-5)
    finally:
        kernels.set_backend(active)
    np.testing.assert_array_equal(run(model, images()), before)


def test_another_number_of_threads():
    model, x = build(), images(0, 2, 40)
    before, threads = run(model, x), kernels.get_num_threads()
    try:
        for count in (1, 3):
            kernels.set_num_threads(count)
            np.testing.assert_allclose(run(model, x), before, rtol=1e-4, atol=1e-5)
    finally:
        kernels.set_num_threads(threads)


def test_several_threads_at_once():
    model, wrong = build(), []
    inputs = [images(seed, 2, 12) for seed in range(3)]
    expected = [by_definition(model, x) for x in inputs]

    def work(x, result):
        for _ in range(50):
            if not np.allclose(run(model, x), result, rtol=1e-4, atol=1e-4):
                wrong.append(x)
            model.norm.bias.data  # noqa: B018  ends the watch that others began

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("lying", ["planes", "reversed", "one channel of many"])
def test_images_of_any_layout(lying):
    model, x = build(), images(0, 2, 9)
    expected = run(model, x)
    array = x.numpy()
    other = {
        "planes": lambda: np.ascontiguousarray(array),
        "reversed": lambda: array[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1],
        "one channel of many": lambda: np.repeat(array, 2, axis=1)[:, ::2],
    }[lying]()
    y = lucid.from_numpy(other) if hasattr(lucid, "from_numpy") else lucid.tensor(other)
    np.testing.assert_allclose(run(model, y), expected, rtol=1e-5, atol=1e-6)


def test_a_wrong_input_is_named_also_when_weights_are_kept():
    model = build()
    run(model, images())
    for x, message in (
        (lucid.zeros(1, 4, 6, 6), "expected 3 input channels"),
        (lucid.zeros(3, 6, 6), r"expected an input of shape \(N, C, H, W\)"),
    ):
        with lucid.no_grad(), pytest.raises(ValueError, match=message):
            model(x)


def test_a_list_of_settings_is_not_trusted():
    model = build()
    model.conv.stride = [1, 1]
    run(model, images())
    model.conv.stride[0] = 2
    assert run(model, images()).shape[2:] == (3, 6)
