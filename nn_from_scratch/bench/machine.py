"""On what machine, and in what state, something was measured."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["differences", "machine_info", "pinned"]


def machine_info() -> dict[str, str]:
    """The machine and those settings that change how fast torch is; of torch only if somebody has imported it."""
    found = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "python": platform.python_version(),
    }
    torch = sys.modules.get("torch")
    if torch is None:
        return found
    found |= {
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "GPU": "none",
        # Of oneDNN. torch's older function raises an error where products on a GPU have a precision of their own.
        "precision of float32 products": torch.backends.mkldnn.matmul.fp32_precision,
    }
    if torch.cuda.is_available():
        found |= {
            "GPU": torch.cuda.get_device_name(),
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
            "TF32": f"products {torch.backends.cuda.matmul.fp32_precision}, "
            f"convolutions {torch.backends.cudnn.conv.fp32_precision}",
            "cuDNN benchmark": str(torch.backends.cudnn.benchmark),
        }
    return found


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """In words, each entry in which two machines differ."""
    return [
        f"{key} is {here.get(key, 'unknown')!r} here and {there.get(key, 'unknown')!r} there"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]


def pinned(threads: int) -> dict[str, str]:
    """The environment of a process that measures: its threads and the hashes of its strings are the same each time."""
    number = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "OPENBLAS_NUM_THREADS": number,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",  # the worktree of a base is removed again
    }


def _processor() -> str:
    # platform.processor() is empty or "x86_64" on Linux, which tells no machine from another.
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
