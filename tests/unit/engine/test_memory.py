"""Training does not grow."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, torch
import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model

torch.set_num_threads(1)
model, loss = report_model(), nn.MSE()
optimizer = nn.SGD(model, lr=0.5, momentum=0.9)
x = torch.rand(2, 3, 32, 32)

def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x), x)
        loss.backward()
        optimizer.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

print(train(20), train(1980))
"""


def test_peak_memory_after_2000_steps_is_that_after_20() -> None:
    # A process of its own: the peak of this one belongs to whatever ran before.
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    early, late = map(int, result.stdout.split())
    assert late <= 1.02 * early
