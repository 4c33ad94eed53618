"""Compute, and be interrupted by signals at any moment: a script that a test runs.

``python -m tests.interrupted BACKEND SEED TIMES``: an interrupt, as by Ctrl-C, comes that often
during steps of a training, calls of a compiled model and eager ones. It ends with 0 if what is
computed after each is what it was before.
"""

import _weakrefset
import copy
import random
import signal
import sys
import threading
import time
import weakref

import numpy as np

import lucid
from lucid import kernels, nn
from lucid.kernels.numpy import _threads
from lucid.nn import functional

backend, seed, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lucid.set_backend(backend)
lucid.set_num_threads(2)
lucid.manual_seed(0)
rng = np.random.default_rng(seed)
x = rng.standard_normal((4, 3, 64, 64)).astype(np.float32)
targets = lucid.tensor(np.arange(4))


def network():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Hardswish(),
        nn.Conv2d(16, 32, 1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16 * 16, 10),
    )


model = network()
start = copy.deepcopy(model.state_dict())
compiled = [lucid.compile(model, x.shape), lucid.compile(model, (1, *x.shape[1:]))]


def train():
    model.train()
    model.load_state_dict(start)
    optimizer = lucid.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        functional.cross_entropy(model(lucid.tensor(x)), targets).backward()
        optimizer.step()
    return [parameter.data.copy() for parameter in model.parameters()]


def infer():
    model.eval()
    model.load_state_dict(start)
    return [model(lucid.tensor(x)).data]


def run_compiled():
    return [compiled[0](x), compiled[0](x[:3]), compiled[1](x[:1])]


def check(jobs, expected):
    assert lucid.is_grad_enabled()
    blas = _threads._pool._blas
    assert blas is None or not blas.is_known or blas.threads() == 2, "BLAS's threads"
    for job in jobs:
        for array, wanted in zip(job(), expected[job]):
            np.testing.assert_allclose(array, wanted, rtol=2e-3, atol=2e-4)


def finalizers(job):
    """Return which functions of Python's a job calls where something dies: they lose a Ctrl-C."""
    found = set()
    callbacks = [(weakref.__file__, name) for name in ("remove", "__call__")]
    callbacks += [(_weakrefset.__file__, "_remove")]

    def note(frame, event, argument):
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        if name == "__del__" or (file, name) in callbacks:
            found.add(f"{file}: {name}")

    sys.setprofile(note)
    job()
    sys.setprofile(None)
    return found


jobs = [train, infer, run_compiled]
expected, seconds = {}, {}
for job in jobs:
    job()
    begin = time.perf_counter()
    expected[job] = job()
    seconds[job] = time.perf_counter() - begin
    called = finalizers(job)
    assert not called, called
pick = random.Random(seed)
signal.signal(signal.SIGALRM, signal.default_int_handler)
came = 0
for turn in range(times):
    job = jobs[turn % len(jobs)]
    delay = pick.random() * seconds[job]
    try:
        signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-6))
        begin = time.perf_counter()
        while time.perf_counter() - begin < 20:  # an interrupt that does not come is lost
            job()
    except KeyboardInterrupt:
        came += 1
    check([job], expected)
check(jobs, expected)
assert came == times
assert len(threading.enumerate()) < 8, threading.enumerate()
print("right", kernels.get_backend())
