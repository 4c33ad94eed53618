"""Run on two ranks by ``test_core_timeline.py``: three steps under a timeline."""

from __future__ import annotations

import sys

import lucid
from lucid import distributed, nn, optim

distributed.init()
model = nn.Sequential(*(nn.Linear(20, 20) for _ in range(4)))
optimizer = distributed.DistributedOptimizer(
    optim.SGD(model.parameters(), lr=0.01), model, bucket_mb=2e-3
)
with distributed.timeline(sys.argv[1]):
    for _ in range(3):
        optimizer.zero_grad()
        model(lucid.randn(4, 20)).sum().backward()
        optimizer.step()
