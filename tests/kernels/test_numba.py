"""The fast backend's own paths: remainders of tiles, threads, forks, and the cache of machine code.

Its functions are compared with the NumPy backend's, or with their definition in float64.
"""

import itertools
import math
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from lucid import kernels
from lucid._extras import install
from lucid.kernels import _dispatch
from lucid.kernels import numpy as reference
from lucid.kernels.geometry import NO_BOUNDS, Conv, Epilogue
from lucid.kernels.numba import (
    _activation,
    _batch_norm,
    _conv,
    _dense,
    _prepared,
    _product,
    _weight_grad,
)
from lucid.kernels.numba.machine import _cache, _packing, _recorded, _threads, _tile
from lucid.kernels.numba.machine._native import (
    PANEL,
    TILE_ROWS,
    WIDTH,
    Workspace,
    empty,
    workspace,
)

ROWS = sorted({1, 2, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1, 3 * TILE_ROWS + 2, 300})
COLUMNS = sorted({1, 3, WIDTH - 1, WIDTH, WIDTH + 1, PANEL - 1, PANEL, PANEL + 1, 3 * PANEL + 5})
DEPTHS = [1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 70, 1030]


@pytest.fixture(autouse=True)
def fast():
    before = kernels.get_backend()
    kernels.set_backend("numba")
    threads = kernels.get_num_threads()
    yield kernels.active()
    kernels.set_num_threads(threads)
    kernels.set_backend(before)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def guarded(*shape):
    """Return an array between two rows of a number that must stay."""
    whole = np.full((shape[0] + 2, *shape[1:]), 7, np.float32)
    return whole, whole[1:-1]


def close(actual, expected, depth):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=3e-6 * depth**0.5)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("columns", COLUMNS)
def test_product(rows, columns, threads):
    kernels.set_num_threads(threads)
    for depth in DEPTHS:
        x, weight = random(rows, depth), random(columns, depth, seed=1)
        scale, bias = random(columns, seed=2), random(columns, seed=3)
        residual = random(rows, columns, seed=4)
        expected = x.astype(np.float64) @ weight.T.astype(np.float64) * scale + bias
        packed = _packing.packed_like(depth, columns)
        _threads.run(
            _threads.plan(_packing.pack_instruction(weight[:, :, None, None], packed, scale, bias))
        )
        for bounds, other in ((NO_BOUNDS, None), ((0.0, math.inf), None), ((-1.0, 2.0), residual)):
            whole, out = guarded(rows, columns)
            _threads.run(_threads.plan(_product.product_instruction(x, packed, out, bounds, other)))
            wanted = np.clip(expected, *bounds)
            close(out, wanted if other is None else wanted + other, depth)
            assert (whole[[0, -1]] == 7).all()


def test_few_rows_read_the_panel_ahead_that_follows():
    kernels.set_num_threads(1)  # of 1000 rows, that is: several threads have fewer each
    k, n = 33, 3 * PANEL
    step = _packing.packed_like(k, n).data.strides[0]
    for rows, expected in ((50, step if WIDTH == 8 else 0), (1000, 0)):  # with AVX2
        tile, sizes = _product._settings(rows, k, n, 4 * k, 4 * n, NO_BOUNDS, 0, 1)
        assert (tile.b_panel, sizes.panel_bytes) == (expected, step)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_small_blocks_of_rows_share_no_panels(threads):
    kernels.set_num_threads(threads)
    wanted = 8 * threads
    for rows, k, n in itertools.product((1, 7, 49, 98, 196, 3136), (16, 512, 2048), (8, 96, 2048)):
        row_blocks, column_blocks = _product.grid(rows, k, n)
        panels, heights = -(-n // PANEL), -(-rows // TILE_ROWS)
        assert 1 <= row_blocks <= heights
        assert 1 <= column_blocks <= panels
        if rows * k * n > wanted << 18 and threads > 1:
            assert row_blocks * column_blocks >= min(wanted, heights * panels)
        if rows < 12 * row_blocks and row_blocks > 1:
            assert panels < wanted or rows * k > (row_blocks - 1) << 16


def product_transposed(a, b):
    workspace.start()
    out = np.full((a.shape[1], b.shape[1]), np.nan, np.float32)
    _threads.launch(*_weight_grad.product_transposed(a, b, out))
    return out


@pytest.mark.parametrize("rows", [1, 5, 127, 128, 129, 1000])
@pytest.mark.parametrize("n1", ROWS[:-1])
@pytest.mark.parametrize("n2", [1, WIDTH, PANEL + 3])
def test_product_of_transposed(rows, n1, n2):
    a, b = random(rows, n1), random(rows, n2, seed=1)
    out = product_transposed(a, b)
    close(out, a.T.astype(np.float64) @ b, rows)


def test_product_of_transposed_in_parts():
    a, b = random(20_000, 40), random(20_000, 33, seed=1)
    kernels.set_num_threads(1)
    alone = product_transposed(a, b)
    close(alone, a.T.astype(np.float64) @ b, 20_000)
    kernels.set_num_threads(2)
    first = product_transposed(a, b)
    for _ in range(5):  # whichever thread takes which part
        np.testing.assert_array_equal(product_transposed(a, b), first)


# (n, h, w, in, out, kernel, stride, padding, groups): maps large enough for several chunks, and
# channel counts that fill no vector.
CONVOLUTIONS = {
    "stem": (2, 64, 61, 3, 32, 3, 2, 1, 1),
    "dense": (1, 40, 40, 17, 35, 3, 1, 1, 1),
    "dense without padding": (2, 33, 30, 16, 8, 3, 1, 0, 1),
    "dense strided": (2, 33, 30, 16, 50, 3, 2, 1, 1),
    "dense 5": (1, 20, 23, 7, 33, 5, 3, 2, 1),
    "pointwise": (2, 30, 31, 20, 40, 1, 1, 0, 1),
    "pointwise strided": (2, 30, 31, 20, 40, 1, 2, 0, 1),
    "depthwise 3": (2, 30, 29, 35, 35, 3, 1, 1, 35),
    "depthwise 3 strided": (2, 30, 29, 48, 48, 3, 2, 1, 48),
    "depthwise 5": (2, 28, 28, 33, 33, 5, 1, 2, 33),
    "depthwise 5 strided": (3, 28, 27, 64, 64, 5, 2, 2, 64),
    "depthwise 7": (1, 14, 15, 19, 19, 7, 1, 3, 19),
    "depthwise, kernel over the image": (1, 2, 3, 20, 20, 5, 1, 2, 20),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution_and_gradients(fast, case, threads):
    kernels.set_num_threads(threads)
    n, h, w, i, o, k, s, p, groups = case
    x, weight = random(n, h, w, i), random(o, i // groups, k, k, seed=1)
    scale, shift = random(o, seed=2), random(o, seed=3)
    how = Conv((s, s), ((p, p), (p, p)), groups=groups)
    depth = i // groups * k * k
    expected = reference.conv2d(x.astype(np.float64), weight.astype(np.float64), how)
    close(fast.conv2d(x, weight, how, Epilogue(shift=shift)), expected + shift, depth)
    actual = fast.conv2d(x, weight, how, Epilogue(scale, shift, (0.0, 6.0)))
    close(actual, np.clip(expected * scale + shift, 0, 6), depth)
    grad = random(*expected.shape, seed=4)
    wide = grad.astype(np.float64)
    gx = fast.conv2d_input_grad(grad, weight, x.shape, how)
    close(gx, reference.conv2d_input_grad(wide, weight.astype(float), x.shape, how), o * k * k)
    gw = fast.conv2d_weight_grad(x, grad, weight.shape, how)
    wanted = reference.conv2d_weight_grad(x.astype(np.float64), wide, weight.shape, how)
    close(gw, wanted, expected.size // o)


@pytest.mark.parametrize("case", ["stem", "pointwise", "pointwise strided", "depthwise 3"])
def test_prepared(fast, case):
    n, h, w, i, o, k, s, p, groups = CONVOLUTIONS[case]
    x, weight, bias = random(n, h, w, i), random(o, i // groups, k, k, seed=1), random(o, seed=3)
    how = Conv((s, s), ((p, p), (p, p)), groups=groups)
    plain = reference.conv2d(x, weight, how, Epilogue(shift=bias))
    residual = random(*plain.shape, seed=5)
    for end, function in (
        (Epilogue(), lambda y: y),
        (Epilogue(bounds=(0.0, 6.0)), lambda y: np.clip(y, 0, 6)),
        (Epilogue(bounds=(0.0, np.inf)), lambda y: np.maximum(y, 0)),
        (Epilogue(activation=("silu",)), lambda y: y / (1 + np.exp(-y))),
    ):
        run = fast.prepare_conv(x.shape, weight, how, end._replace(shift=bias))
        for added in ([], [residual]):
            out = np.empty_like(plain)
            run(out, x, *added)
            wanted = sum(added, function(plain))
            np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-4)


def test_nan_and_infinity_pass(fast):
    x = random(1, 4, 4, 32)
    x[0, 1, 1], x[0, 2, 2] = np.nan, np.inf
    weight = np.ones((32, 1, 1, 1), np.float32)
    clipped = Epilogue(weight[:, 0, 0, 0], 0 * weight[:, 0, 0, 0], (0.0, np.inf))
    for array in (
        fast.conv2d(x, weight, Conv(groups=32), clipped),
        fast.clip(x, 0.0, np.inf),
        fast.conv2d(x, np.eye(32, dtype=np.float32)[:, :, None, None], epilogue=clipped),
    ):
        assert np.isnan(array[0, 1, 1]).all()
    assert (fast.clip(x, 0.0, np.inf)[0, 2, 2] == np.inf).all()


@pytest.mark.parametrize("columns", [1, WIDTH - 1, WIDTH, 40, 100])
@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 5000])
def test_batch_norm(fast, rows, columns):
    x = random(rows, columns) * 3 + 100
    grad, weight = random(rows, columns, seed=1), random(columns, seed=2)
    mean, variance = fast.batch_norm_stats(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fast.scale_shift(x, weight, weight), x * weight + weight, rtol=1e-5)
    mean = mean.astype(np.float32)
    inverse = (1 / np.sqrt(variance + 1e-5)).astype(np.float32)
    actual = fast.batch_norm_grad(grad, x, mean, inverse, weight)
    expected = reference.batch_norm_grad(
        grad.astype(float), wide, mean.astype(float), inverse.astype(float), weight.astype(float)
    )
    for a, b in zip(actual, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("shape", [(3, 5), (70, 1000), (2, 3, 40, 50)])
def test_clip_in_any_layout(fast, shape):
    x = random(*shape) * 4
    for view in (x, x.T, np.flip(x), x[..., ::2], np.asfortranarray(x)):
        y = fast.clip(view, 0.0, 6.0)
        np.testing.assert_array_equal(y, np.clip(view, 0, 6))
        grad = random(*view.shape, seed=1)
        np.testing.assert_array_equal(
            fast.clip_grad(grad, y, 0.0, 6.0), np.where((y > 0) & (y < 6), grad, 0)
        )
        open_end = fast.clip(np.where(view > 2, np.inf, view).astype(np.float32), 0.0, np.inf)
        np.testing.assert_array_equal(
            fast.clip_grad(grad, open_end, 0.0, np.inf), np.where(open_end > 0, grad, 0)
        )


ACTIVATIONS = {
    ("gelu", False): lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    ("gelu", True): lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ("silu",): lambda x: x / (1 + np.exp(-x)),
    ("hardswish",): lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_prepared_convolution_with_any_activation(fast, case, activation, threads):
    kernels.set_num_threads(threads)
    n, h, w, i, o, k, s, p, groups = case
    x, weight = random(n, h, w, i), random(o, i // groups, k, k, seed=1) / np.float32(k)
    bias = random(o, seed=2)
    how = Conv((s, s), ((p, p), (p, p)), groups=groups)
    wide_x, wide_weight = x.astype(np.float64), weight.astype(np.float64)
    sums = reference.conv2d(wide_x, wide_weight, how, Epilogue(shift=bias.astype(np.float64)))
    expected = ACTIVATIONS[activation](sums)
    end = Epilogue(None, bias, activation=activation)
    run = fast.prepare_conv(x.shape, weight, how, end)
    whole, out = guarded(*expected.shape)
    residual = random(*expected.shape, seed=3)
    for added in ([], [residual]):
        run(out, x, *added)
        wanted = sum(added, expected)
        np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-4)
        assert (whole[[0, -1]] == 7).all()


# -- threads --------------------------------------------------------------------------------------


def work(repeats=20):
    """Compute something with many chunks, and tell whether it was right each time."""
    x, weight = random(1, 40, 40, 32), random(64, 32, 1, 1, seed=1)
    expected = reference.conv2d(x, weight)
    return all(
        np.allclose(_conv.conv2d(x, weight), expected, rtol=1e-3, atol=1e-4) for _ in range(repeats)
    )


def test_several_callers_at_once():
    kernels.set_num_threads(2)
    results = []
    callers = [threading.Thread(target=lambda: results.append(work())) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [True] * 4


def test_more_threads_than_cores_and_fewer_again():
    for threads in (7, 1, 2, 5):
        kernels.set_num_threads(threads)
        assert kernels.get_num_threads() == threads
        assert work(5)


def test_a_plan_made_for_fewer_threads_keeps_to_them():
    kernels.set_num_threads(1)
    x, out = random(1, 60, 60, 8), empty((1, 60, 60, 8))
    packed = _conv.pack(random(8, 8, 3, 3, seed=1), Conv(padding=((1, 1), (1, 1))))
    scratch = empty((_conv.conv_scratch(packed, x, out),))
    plan = _threads.plan(_conv.conv_instruction(packed, x, out, scratch=scratch))
    kernels.set_num_threads(4)
    _threads.run(plan)
    first = out.copy()
    for _ in range(50):
        _threads.run(plan)
        np.testing.assert_array_equal(out, first)


def test_an_instruction_is_packed_by_names():
    x = random(4)
    with pytest.raises(TypeError, match=r"add_part: expected .*'size'.*, got .*'x', 'y'"):
        _prepared.add_part.pack(1, x=x, y=x)
    with pytest.raises(KeyError, match="size"):
        _prepared.add_part.pack(1, x=x, y=x, length=4)


def test_workers_stay_awake_during_a_launch():
    """Nobody wakes them before the next one: the rest of a long plan would have one thread less."""
    kernels.set_num_threads(2)
    x, y = empty((1 << 22,)), empty((1 << 22,))
    x[...] = y[...] = 1
    alone = _prepared.add_part.pack(1, x=x, y=y, size=x.size)
    plan = _threads.plan(*[alone] * 12)  # longer than they wait for work

    def nobody_sleeps():
        _threads.run(plan)
        return _threads._get_pool().state[_threads._SLEEPING] == 0

    # The system may keep this thread from looking in time, but not always.
    assert any(nobody_sleeps() for _ in range(20))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_has_threads_of_its_own():
    kernels.set_num_threads(2)
    assert work(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork while threads run
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(work, [3] * 4) == [True] * 4
    assert work(3)


def test_idle_threads_sleep_and_wake():
    kernels.set_num_threads(2)
    assert work(1)
    pool = _threads._get_pool()
    for _ in range(1000):
        if pool.state[_threads._SLEEPING]:
            break
        threading.Event().wait(0.01)
    assert pool.state[_threads._SLEEPING] >= 1
    assert work(3)


# (n, h, w, in, out, kernel, stride, padding, groups)
@pytest.mark.parametrize(
    "shape",
    [
        (4, 9, 8, 5, 7, 1, 1, 0, 1),
        (4, 9, 8, 5, 7, 3, 2, 1, 1),
        (4, 9, 8, 5, 5, 3, 2, 1, 5),
        (4, 9, 8, 5, 7, 1, 2, 0, 1),  # pixels that no output reads
    ],
    ids=str,
)
@pytest.mark.parametrize("has_norm", [True, False])
def test_training_of_other_arrays_of_the_same_shapes(fast, shape, has_norm):
    """The launch is made at the first call, and is to hold nothing of its arrays."""
    n, h, w, i, o, k, stride, padding, groups = shape
    how = Conv((stride, stride), ((padding, padding),) * 2, groups=groups)
    kept = []
    for seed in range(3):
        kernels.set_num_threads(1 + seed % 2)
        x, weight = random(n, h, w, i, seed=seed), random(o, i // groups, k, k, seed=seed + 10)
        if seed == 2:  # other strides, the same shape
            weight = np.ascontiguousarray(weight.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
        norm = (random(o, seed=seed + 20), random(o, seed=seed + 30)) if has_norm else (None, None)
        given = x, weight, *norm, 1e-5, (0.0, 2.0), how
        results = fast.conv_norm_act_train(*given)
        for actual, wanted in zip(results[:4], reference.conv_norm_act_train(*given)):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)
        _, z, mean, variance, _ = results
        grad = random(*z.shape, seed=seed + 40)
        needs = seed != 1, True
        given = grad, x, weight, z, mean, variance, *given[2:], *needs
        gradients = fast.conv_norm_act_train_grad(*given)
        for actual, wanted in zip(gradients, reference.conv_norm_act_train_grad(*given)):
            if wanted is None:
                assert actual is None
            else:
                np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-3)
        kept.append([(a, a.copy()) for a in (*results, *gradients) if a is not None])
    for array, copy in itertools.chain.from_iterable(kept):  # later calls have not written there
        np.testing.assert_array_equal(array, copy)


def test_a_launch_is_made_once(monkeypatch):
    made = []

    def make(x, out):
        made.append(x.shape)
        return [_batch_norm.affine_instruction(x, out, workspace.empty((2, 3)))]

    for _ in range(2):
        _recorded.launch(make, (random(5, 3), np.empty((5, 3), np.float32)))
    _recorded.launch(make, (random(6, 3), np.empty((6, 3), np.float32)))
    assert made == [(5, 3), (6, 3)]


def test_workspace_grows_and_is_reused():
    workspace = Workspace()
    first = workspace.empty((100,))
    first[...] = 1
    second = workspace.empty((1000, 10))
    second[...] = 2
    assert (first == 1).all()
    assert first.ctypes.data % 64 == second.ctypes.data % 64 == 0
    workspace.start()
    again = workspace.empty((500,))
    again[...] = 3
    assert np.shares_memory(again, second)


# -- a process of its own -------------------------------------------------------------------------


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_import_does_not_load_llvm():
    code = "import sys, lucid; assert 'llvmlite' not in sys.modules; print(lucid.get_backend())"
    assert run_python(code, LUCID_BACKEND="").stdout.strip() == "numba"


def test_backend_from_the_environment():
    code = "import sys, lucid; print(lucid.get_backend()); assert 'llvmlite' not in sys.modules"
    assert run_python(code, LUCID_BACKEND="numpy").stdout.strip() == "numpy"


def test_number_of_threads_from_the_environment():
    code = "import lucid; lucid.set_backend('numba'); print(lucid.get_num_threads())"
    assert run_python(code, OMP_NUM_THREADS="3").stdout.strip() == "3"
    more = run_python(code, OMP_NUM_THREADS="3", LUCID_NUM_THREADS="5")
    assert more.stdout.strip() == "5"


def test_compiled_once_and_announced(tmp_path):
    first = run_python(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
    assert first.stderr.count("compiling the fast kernels") == 1
    second = run_python(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
    assert second.stderr == ""
    assert second.stdout == first.stdout == "5979.0\n"


ONE_KERNEL = """
import sys
sys.executable = ""  # this process compiles itself
import numpy as np
from lucid.kernels import numba
print(numba.clip(np.arange(1000, dtype=np.float32), 0.0, 6.0).sum())
"""


ALL_KERNELS = """
import sys
import lucid.kernels.numba
from lucid.kernels.numba.machine._native import natives
assert len(natives) > 40 and all(kernel.address for kernel in natives.values())
print("llvmlite.binding" in sys.modules)
"""


def test_the_code_of_tiles_is_in_no_kernel_that_calls_them():
    for made, *callers in (
        (_activation.tiles_activated, _product.product, _product.products, _dense.dense),
        (_tile.tiles_transposed, _weight_grad.transposed_product, _weight_grad.dense_sums),
    ):
        sizes = [len(_cache.load(native.name)) for native in (made, *callers) if native.address]
        assert len(sizes) == 1 + len(callers)
        assert max(sizes[1:]) < sizes[0]  # as it would not be if the tiles were in it


@pytest.mark.slow  # some seconds where they are not compiled yet
def test_every_kernel_is_loaded_without_what_compiles():
    run_python(ALL_KERNELS)
    assert run_python(ALL_KERNELS).stdout == "False\n"


UNREADABLE = """
import os, pathlib, sys, tempfile
(file,) = pathlib.Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*clip_part*.lucid")
file.write_bytes(b"")
def refuse(*args, **kwargs):
    raise PermissionError(13, "Permission denied")
tempfile.TemporaryFile = refuse  # nor can it be kept
import numpy as np
from lucid.kernels import numba
before = "llvmlite.binding" in sys.modules
result = numba.clip(np.arange(1000, dtype=np.float32), 0.0, 6.0).sum()
print(before, result, "llvmlite.binding" in sys.modules)
"""


def test_llvm_is_loaded_where_a_kernel_cannot_be_read(tmp_path):
    run_python(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
    done = run_python(UNREADABLE, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == "False 5979.0 True\n"


def spoil(path, how):
    content = path.read_bytes()
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "a folder with something in it":
        (path / "a").mkdir(parents=True)
    elif how == "not to be read":
        path.write_bytes(content)
        path.chmod(0)
    elif how == "one bit":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.write_bytes(
            {
                "empty": b"",
                "truncated": content[: len(content) // 2],
                "nearly whole": content[:-1],
                "random": np.random.default_rng(0).bytes(len(content)),
            }[how]
        )


@pytest.mark.slow
def test_a_broken_cache_is_replaced(tmp_path):
    def run():
        done = run_python(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
        assert done.stdout == "5979.0\n"
        return done.stderr

    run()
    files = tmp_path.rglob("*clip_part*.lucid")
    (file,) = files
    for how in ("empty", "truncated", "nearly whole", "random", "one bit", "a folder"):
        spoil(file, how)
        assert "compiling the fast kernels" in run(), how
        assert run() == "", how
    assert not list(tmp_path.rglob("*.tmp"))
    spoil(file, "a folder with something in it")
    assert run().count("cannot be kept") == 1


def test_without_a_folder_for_the_cache(tmp_path):
    code = """
import tempfile, warnings
def refuse(*args, **kwargs):
    raise PermissionError(13, "Permission denied")
tempfile.TemporaryFile = refuse
warnings.simplefilter("always")
"""
    done = run_python(code + ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == "5979.0\n"
    assert done.stderr.count("compiled at every start") == 1
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1


def test_a_full_disk(tmp_path):
    code = """
import os, pathlib
def full(self, content):
    raise OSError(28, "No space left on device")
pathlib.Path.write_bytes = full
"""
    done = run_python(code + ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == "5979.0\n"
    assert done.stderr.count("No space left on device") == 1
    assert run_python(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path)).stdout == "5979.0\n"


def test_a_program_without_sources_computes_by_numpy(monkeypatch):
    monkeypatch.setattr(_dispatch, "__file__", "/nowhere/lucid/kernels/_dispatch.pyc")
    assert _dispatch._default() == "numpy"


def test_an_old_llvmlite_names_the_extra_and_leaves_the_default_to_numpy(monkeypatch):
    import llvmlite

    needed = ".".join(map(str, _dispatch._LLVMLITE))
    told = f"needs llvmlite {needed} or newer, not 0.9.1: {install('fast')}"
    monkeypatch.setattr(llvmlite, "__version__", "0.9.1")
    monkeypatch.setattr(_dispatch, "_active", None)
    monkeypatch.setattr(_dispatch, "_name", "")
    with pytest.raises(ImportError, match=re.escape(told)):
        kernels.set_backend("numba")
    monkeypatch.setenv("LUCID_BACKEND", "numba")
    with pytest.raises(ImportError, match=re.escape(told)):
        kernels.get_backend()
    monkeypatch.delenv("LUCID_BACKEND")
    with pytest.warns(UserWarning, match=re.escape(told) + ".*NumPy computes"):
        assert kernels.get_backend() == "numpy"


def test_missing_llvmlite_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    for name in [name for name in sys.modules if name.startswith("lucid.kernels.numba")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=re.escape(install("fast"))):
        kernels.set_backend("numba")
