"""The first start on a machine: kernels are compiled by other processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lucid import kernels

try:
    kernels.set_backend("numba")
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="written for POSIX")

# A few small kernels, so that a test takes seconds; `clip` needs these.
FEW = """
import os, signal, time
import numpy as np
import lucid
from lucid import kernels, nn
from lucid.kernels import numba
from lucid.kernels.numba.machine import _compiler, _native

few = ["_activation.clip_part", "machine._threads._run"]
for name in [name for name in _native.natives if name not in few]:
    del _native.natives[name]
clip_part = _native.natives[few[0]]
x = np.arange(1000, dtype=np.float32)

def clip():
    return numba.clip(x, 0.0, 6.0).sum()

def pids():
    kernels.warm_up(wait=False)
    while not kernels.is_ready() and not _compiler._teams[0].processes:
        time.sleep(0.01)
    return [process.pid for process in _compiler._teams[0].processes]
"""


def run(code, folder, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LUCID_WARM_UP": "0", "NUMBA_CACHE_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


def lines(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


INTERIM = f"""{FEW}
fast = lucid.compile(nn.ReLU6(), (1, 1000))
print(fast._is_interim, "address" in vars(clip_part))
first = fast(x[None])
while fast._is_interim:
    time.sleep(0.1)
    again = fast(x[None])
print("address" in vars(clip_part), np.array_equal(first, again))
"""


def test_numpy_computes_until_the_kernels_are_there(tmp_path):
    done = run(INTERIM, tmp_path)
    assert lines(done) == ["True False", "True True"]
    assert done.stderr.count("compiling the fast kernels") == 1
    assert "NumPy computes meanwhile" in done.stderr


def test_a_setting_lets_compile_wait(tmp_path):
    code = f"{FEW}\nprint(lucid.compile(nn.ReLU6(), (1, 3))._is_interim)"
    assert lines(run(code, tmp_path, LUCID_WARM_UP="1")) == ["False"]


def test_warm_up_leaves_nothing_to_compile(tmp_path):
    code = (
        f"{FEW}\nlucid.warm_up()\nprint(all(native.load() for native in _native.natives.values()))"
    )
    assert lines(run(code, tmp_path)) == ["True"]
    code = f"{FEW}\nprint(kernels.is_ready(), _compiler._teams)"
    done = run(code, tmp_path)
    assert lines(done) == ["True {}"]
    assert done.stderr == ""


def test_kernels_are_compiled_by_another_process(tmp_path):
    code = f"{FEW}\nclip_part.make = None  # what compiles here\nprint(clip())"
    assert lines(run(code, tmp_path)) == ["5979.0"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python cannot ask for a group there")
def test_processes_are_of_the_programs_session_but_not_of_its_terminals_group(tmp_path):
    code = (
        f"{FEW}\nfor pid in pids(): print(os.getsid(pid) == os.getsid(0), os.getpgid(pid) == pid)"
    )
    assert set(lines(run(code, tmp_path))) == {"True True"}


@pytest.mark.parametrize(("call", "nice"), [("clip()", 10), ("kernels.warm_up(wait=False)", 0)])
def test_processes_stand_back_behind_a_program_that_computes_by_kernels(call, nice, tmp_path):
    code = f"{FEW}\n_compiler.Team.start = lambda self: print(self._nice)\n{call}"
    assert lines(run(code, tmp_path))[0] == str(nice)
    code = f"{FEW}\n_compiler.serve({nice})\nprint(os.nice(0) - before)"
    done = run(f"import os; before = os.nice(0)\n{code}", tmp_path)
    assert done.stderr.split()[-1] == str(min(nice, 19 - os.nice(0)))  # 19 is the end


STEP = """
import numpy as np
import lucid
from lucid.kernels.numba.machine import _compiler, _native
model = lucid.models.create_model("mobilenetv4_conv_small")
optimizer = lucid.optim.AdamW(model.parameters())
logits = model(lucid.zeros(16, 3, 224, 224))
lucid.nn.functional.cross_entropy(logits, lucid.tensor(np.zeros(16, int))).backward()
optimizer.step()
for name, native in _native.natives.items():
    if ("address" in vars(native)) == name.startswith(_compiler._LATE):
        print(name)
"""


def test_what_a_training_step_does_not_need_is_compiled_last():
    needless = {"_conv.clear_pixels", "_optim.sgd"}  # of a tenth of a second; others need them
    folder = os.environ.get("NUMBA_CACHE_DIR", "")
    found = lines(run(STEP, folder, LUCID_BACKEND="numba", LUCID_NUM_THREADS="2"))
    assert set(found) <= needless


def test_without_processes_this_one_compiles(tmp_path):
    code = f"import sys; sys.executable = ''\n{FEW}\n"
    code += "print(kernels.is_ready(), clip(), _compiler._teams)"
    assert lines(run(code, tmp_path)) == ["True 5979.0 {}"]


def test_processes_that_cannot_be_started(tmp_path):
    code = f"import sys; sys.executable = '/nowhere'\n{FEW}\nprint(clip(), kernels.is_ready())"
    assert lines(run(code, tmp_path)) == ["5979.0 True"]


def test_killed_processes_leave_the_work_to_this_one(tmp_path):
    code = f"{FEW}\nfor pid in pids(): os.kill(pid, signal.SIGKILL)\nprint(clip())"
    assert lines(run(code, tmp_path, LUCID_NUM_THREADS="1")) == ["5979.0"]


def test_a_process_that_hangs_is_not_waited_for(tmp_path):
    code = f"""{FEW}
_compiler._LIMIT = 5.0
for pid in pids(): os.kill(pid, signal.SIGSTOP)
print(clip(), [process.returncode for process in _compiler._teams[0].processes][:1])
"""
    assert lines(run(code, tmp_path, LUCID_NUM_THREADS="1")) == ["5979.0 [-9]"]


def test_a_fork_starts_its_own_processes(tmp_path):
    code = f"""{FEW}
before = pids()
if not (child := os.fork()):
    print(clip(), set(before).isdisjoint(pids()), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0  # not one of the compilers
print(clip())
"""
    assert lines(run(code, tmp_path)) == ["5979.0 True", "5979.0"]


def test_a_script_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"print('once', flush=True)\n{FEW}\nprint(clip())")
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "once\n5979.0\n"


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_program(sign, tmp_path):
    imports, _, functions = FEW.partition("few =")
    code = imports + functions[functions.index("def pids") :]
    code += """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
for native in list(_native.natives.values()):
    if native.is_long:  # who compiles ends the kernel that it is at
        del _native.natives[native.name]
print(*pids(), flush=True)
lucid.warm_up()
time.sleep(100)  # a quick machine has them all before the signal
"""
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "LUCID_WARM_UP": "0", "NUMBA_CACHE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    compilers = [int(word) for word in program.stdout.readline().split()]
    assert compilers
    time.sleep(1)
    start = time.monotonic()
    os.killpg(program.pid, sign)
    errors = program.communicate(timeout=100)[1]
    assert program.returncode == -sign or "KeyboardInterrupt" in errors
    while any(map(is_running, compilers)):
        assert time.monotonic() < start + 120
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="needs mpiexec")
def test_ranks_compile_at_once(tmp_path):
    done = subprocess.run(
        ["mpiexec", "-n", "3", sys.executable, "-c", f"{FEW}\nprint(clip(), flush=True)"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.split() == ["5979.0"] * 3, done.stderr


TRAINING = """
import hashlib
import numpy as np
import lucid
from lucid import nn, optim
lucid.manual_seed(0)
block = [nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16)]
model = nn.Sequential(*block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
optimizer = optim.Adam(model.parameters())
for _ in range(3):
    loss = nn.functional.cross_entropy(model(lucid.randn(4, 3, 20, 20)), lucid.tensor([0, 1, 2, 3]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(hashlib.sha256(b"".join(p.data.tobytes() for p in model.parameters())).hexdigest())
"""


@pytest.mark.slow
def test_a_seed_gives_the_same_weights_with_an_empty_cache(tmp_path):
    cold, warm = run(TRAINING, tmp_path), run(TRAINING, tmp_path)
    assert lines(cold) == lines(warm)
    assert "compiling the fast kernels" in cold.stderr
