"""What the pytest plugin costs everybody who has it installed, whether they use it or not."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.bench

PROGRAM = """
import sys, time, pytest, _pytest.pytester
start = time.process_time()
import nn_from_scratch.testing.plugin
print(time.process_time() - start)
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""


def test_loading_the_plugin_adds_less_than_50_ms_to_the_start_of_pytest() -> None:
    # Processor seconds, in processes that have pytest already; the least of three is the machine's noise away.
    seconds = [float(subprocess.check_output([sys.executable, "-c", PROGRAM])) for _ in range(3)]
    assert min(seconds) < 0.05
