"""Terminals that are narrow, or whose encoding lacks characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WRONG = """
import torch


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 3 * g
"""


@pytest.mark.parametrize(
    "setting", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"COLUMNS": "20"}, {"HOME": ""}], ids=str
)
def test_a_finding_is_told_on_every_terminal(setting: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "layer.py").write_text(WRONG)
    words = [
        sys.executable,
        "-m",
        "nn_from_scratch",
        "verify",
        "layer.py:Wrong",
        "--input",
        "3",
        "--checks",
        "gradient",
    ]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, **setting}, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"every entry is 1.5" in done.stdout or b"allowed" in done.stdout
