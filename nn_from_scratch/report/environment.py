"""Where a result was made."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nn_from_scratch import __version__

__all__ = ["environment"]


def environment(*, torch: bool = False) -> dict[str, str]:
    """Describe this machine and what runs on it, name to value.

    Args:
        torch: whether torch is imported for it; without, what only torch knows (threads, GPU, precision) is left out
            unless torch is there already.
    """
    found = {
        "nn_from_scratch": __version__,
        "revision": _revision() or "none (not run from a git checkout)",
        "python": platform.python_version(),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
    }
    return found | (_of_torch() if torch or "torch" in sys.modules else {})


def _of_torch() -> dict[str, str]:
    import torch

    found = {"threads": str(torch.get_num_threads())}
    if not torch.cuda.is_available():
        return found | {"GPU": "none"}
    return found | {
        "GPU": torch.cuda.get_device_name(),
        "CUDA": str(torch.version.cuda),
        "precision of products": torch.backends.cuda.matmul.fp32_precision,
        "precision of convolutions": getattr(torch.backends.cudnn, "conv").fp32_precision,  # noqa: B009  # torch does not declare it
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _revision() -> str | None:
    """The revision of the checkout that this package is in, if it is in one of its own."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
