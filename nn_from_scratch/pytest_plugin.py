"""The pytest plugin: options, markers and the summary. Loading it imports no torch.

Tests marked `gpu` need a CUDA device. What happens to them without one is chosen by `--nnfs-gpu` or, where that is
not given, by the environment variable `NNFS_GPU`: `auto` skips them and says so at the end, `require` fails them,
`off` skips them even where there is a GPU.
"""

from __future__ import annotations

import os

import pytest

GPU_MODES = ("auto", "require", "off")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all with the prefix `--nnfs-`."""
    group = parser.getgroup("nn_from_scratch")
    group.addoption(
        "--nnfs-gpu",
        choices=GPU_MODES,
        default=None,
        help="tests marked gpu without a CUDA device: auto skips them, require fails them, off always skips them "
        "(default: the environment variable NNFS_GPU, else auto)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse a mode that does not exist."""
    config.addinivalue_line("markers", "gpu: needs a CUDA device (see --nnfs-gpu)")
    gpu_mode(config)


def gpu_mode(config: pytest.Config) -> str:
    """`auto`, `require` or `off`.

    Raises:
        pytest.UsageError: the environment variable has another value.
    """
    given: str | None = config.getoption("--nnfs-gpu")
    mode = given if given is not None else os.environ.get("NNFS_GPU", "auto")
    if mode not in GPU_MODES:
        raise pytest.UsageError(
            f"the environment variable NNFS_GPU is {mode!r}, but one of {', '.join(GPU_MODES)} is expected"
        )
    return mode


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a GPU test that cannot run here."""
    if item.get_closest_marker("gpu") is None:
        return
    mode = gpu_mode(item.config)
    if mode == "off":
        pytest.skip("GPU tests are switched off (--nnfs-gpu=off)")
    import torch

    if torch.cuda.is_available():
        return
    reason = f"no CUDA device: torch {torch.__version__} reports torch.cuda.is_available() = False"
    if mode == "require":
        pytest.fail(f"{reason}, but --nnfs-gpu=require asks for one", pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say when there were GPU tests and none of them ran: a green line alone would hide it."""
    ran = skipped = 0
    reason = ""
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if "gpu" not in getattr(report, "keywords", {}):
                continue
            if outcome == "skipped":
                skipped += 1
                reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
            elif getattr(report, "when", "") == "call" or outcome in ("failed", "error"):
                ran += 1
    if skipped and not ran:
        terminalreporter.write_sep("-", "GPU tests", yellow=True)
        terminalreporter.write_line(f"NOTHING RAN ON A GPU: {skipped} tests skipped ({reason})", yellow=True)
