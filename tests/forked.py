"""Fork while other threads compute: a script that a test runs.

``python -m tests.forked BACKEND TIMES``: forks that often, and ends with 0 if each child computes
what the parent did, and the parent goes on.
"""

import os
import sys
import threading
import time
import warnings

import numpy as np

import lucid
from lucid import nn

backend, times = sys.argv[1], int(sys.argv[2])
warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
lucid.set_backend(backend)
lucid.set_num_threads(2)
lucid.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Conv2d(32, 32, 3, padding=1, groups=32),
    nn.Conv2d(32, 64, 1),
    nn.Hardswish(),
).eval()
x = np.random.default_rng(0).standard_normal((4, 3, 128, 128)).astype(np.float32)
compiled = [lucid.compile(model, x.shape), lucid.compile(model, (1, *x.shape[1:]))]
a = np.ones((300, 300), np.float32)


def run_compiled():
    return [compiled[0](x), compiled[1](x[:1])]


def infer():
    with lucid.no_grad():
        return [model(lucid.tensor(x)).data, (lucid.tensor(a) @ lucid.tensor(a)).data]


def draw():
    return [lucid.randn(1 << 17).data * 0]


jobs = [run_compiled, infer, draw]
expected = {job: job() for job in jobs}
stop = threading.Event()


def compute(job):
    while not stop.is_set():
        job()


def is_right():
    return all(
        np.allclose(array, wanted, rtol=1e-3, atol=1e-4)
        for job in jobs
        for array, wanted in zip(job(), expected[job])
    )


threads = [threading.Thread(target=compute, args=(job,), daemon=True) for job in jobs]
for thread in threads:
    thread.start()
hung = 0
for _ in range(times):
    time.sleep(0.003)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if is_right() else 2
        finally:
            os._exit(status)
    end = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.001)
    if done[0] == 0:
        hung += 1
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done[1] == 0, f"exit status {done[1]}"
stop.set()
for thread in threads:
    thread.join(20)
    assert not thread.is_alive()
assert not hung, f"{hung} of {times} children hung"
assert is_right()
print("right")
