"""The pytest plugin: the fixtures `gradcheck` and `ab`, options, markers and the summary. Loading it imports no torch.

Tests marked `gpu` need a CUDA device. What happens to them without one is chosen by `--nnfs-gpu` or, where that is
not given, by the environment variable `NNFS_GPU`: `auto` skips them and says so at the end, `require` fails them,
`off` skips them even where there is a GPU.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nn_from_scratch.storage import is_replaceable
from nn_from_scratch.testing import GradcheckCase, gradcheck_cases, pyramid
from nn_from_scratch.testing.gradcheck import REPORTS, Gradcheck, selected_checks

if TYPE_CHECKING:
    from nn_from_scratch.testing.ab import AB

__all__ = ["Gradcheck", "GradcheckCase", "ab", "gradcheck", "gradcheck_cases", "pyramid"]

GPU_MODES = ("auto", "require", "off")
LEVELS = ("quick", "full")
REPORT_KINDS = {".json": "json", ".md": "markdown", ".html": "html"}

_comparing_key = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all with the prefix `--nnfs-`."""
    group = parser.getgroup("nn_from_scratch", "verification of backward passes")
    group.addoption(
        "--nnfs-gpu",
        choices=GPU_MODES,
        help="tests marked gpu without a CUDA device: auto skips them, require fails them, off always skips them "
        "(default: the environment variable NNFS_GPU, else auto)",
    )
    group.addoption(
        "--nnfs-seed", type=int, default=0, metavar="N", help="seed of everything that gradcheck draws (default: 0)"
    )
    group.addoption(
        "--nnfs-level",
        choices=LEVELS,
        default="quick",
        help="quick, or full: more directions, complex step, whole numerical gradients (default: quick)",
    )
    group.addoption(
        "--nnfs-checks",
        metavar="NAMES",
        help="run these checks alone, as in gradient,determinism; or all but some, as in -low_precision,-copies",
    )
    group.addoption(
        "--nnfs-fragile",
        choices=("fail", "report"),
        default="fail",
        help="whether a test fails for a gradient that is right at its inputs and silently wrong elsewhere (default: "
        "fail)",
    )
    group.addoption(
        "--nnfs-strict",
        action="store_true",
        help="fail a test also for what the backward does not take, such as an empty batch",
    )
    group.addoption(
        "--nnfs-report",
        metavar="PATH",
        help="write every gradcheck report to this file: a page (.html), Markdown (.md) or the results (.json)",
    )
    group.addoption(
        "--nnfs-bench-strict",
        action="store_true",
        help="fail a test whose ab(...).assert_not_slower() stays undecided, instead of warning",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse option values that make no sense before anything runs."""
    config.addinivalue_line("markers", "gpu: needs a CUDA device (see --nnfs-gpu)")
    gpu_mode(config)
    if getattr(config.option, "benchmark_timer", None) == "time.perf_counter":  # pytest-benchmark's, as it came
        config.option.benchmark_timer = "nn_from_scratch.bench.machine.synchronized_clock"
    path = config.getoption("--nnfs-report")
    if path is not None and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise pytest.UsageError(f"--nnfs-report is {path!r}, but a file in an existing folder is expected")
    if path is not None and Path(path).suffix not in REPORT_KINDS:
        raise pytest.UsageError(f"--nnfs-report is {path!r}, but a name that ends in .json, .md or .html is expected")
    if path is not None and not is_replaceable(Path(path)):
        raise pytest.UsageError(
            f"--nnfs-report is {path!r}, a file that this plugin did not write: name another, or remove it first"
        )
    names = selected_checks(config)
    if names is not None and len({name.startswith("-") for name in names}) > 1:
        raise pytest.UsageError(
            f"--nnfs-checks is {config.getoption('--nnfs-checks')!r}, which names checks to run and checks to leave "
            "out; do one or the other"
        )


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


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Gradcheck:
    """Verify a hand-written backward pass in one line.

    Example:
        >>> def test_my_function(gradcheck):
        ...     gradcheck(MyFunction.apply, torch.randn(4, 3, dtype=torch.float64))

    The test fails with the whole report if the backward is wrong, or fragile (see `--nnfs-fragile`), and also if that
    could not be decided.
    """
    return Gradcheck(request.node)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the tests that compare durations, which share one error rate."""
    using = sum("ab" in getattr(item, "fixturenames", ()) for item in session.items)
    session.config.stash[_comparing_key] = using


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Tell pytest-benchmark what else decides how fast torch is: GPU, versions, TF32, threads."""
    from nn_from_scratch.bench.machine import machine_info as found
    from nn_from_scratch.report.results_file import environment

    machine_info["nn_from_scratch"] = {**environment(), **found()}


@pytest.fixture
def ab(request: pytest.FixtureRequest) -> AB:
    """Compare the time of a candidate with that of a reference, by interleaved pairs.

    Example:
        >>> def test_my_kernel_is_no_slower(ab):
        ...     ab(lambda: mine(x), lambda: theirs(x)).assert_not_slower(tol=0.05)

    Also `assert_faster(by=0.1)`. With pytest-benchmark, the pairs go into its JSON as `extra_info["ab"]`, and
    `--benchmark-disable` runs both functions once and skips the test.
    """
    from nn_from_scratch.bench.verdicts import TOLERANCE, Rule
    from nn_from_scratch.testing.ab import AB

    config = request.config
    used = "benchmark" in request.fixturenames
    there = used or config.pluginmanager.hasplugin("benchmark")
    off = getattr(config.option, "benchmark_disable", False) and not getattr(config.option, "benchmark_enable", False)
    torch = sys.modules.get("torch")
    device = "cuda" if torch is not None and torch.cuda.is_initialized() else "cpu"
    return AB(
        Rule(tolerance=TOLERANCE[device]).shared_by(config.stash.get(_comparing_key, 1)),
        strict=config.getoption("--nnfs-bench-strict"),
        measuring=not off,
        find_benchmark=lambda: request.getfixturevalue("benchmark") if there else None,
        run_benchmark=not used,
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the verification reports travel with the test's own report, which xdist carries between processes."""
    report = yield
    if report.when == "call" and REPORTS in item.stash:
        vars(report)["nnfs_reports"] = item.stash[REPORTS]
    return report


def _verifications(terminalreporter: pytest.TerminalReporter) -> list[tuple[str, dict[str, Any]]]:
    """Every verification of the session, as (test, report)."""
    found = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            found += [(report.nodeid, json.loads(text)) for text in getattr(report, "nnfs_reports", ())]
    return sorted(found, key=lambda entry: entry[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was verified, what is fragile or undecided and why, and when there were GPU tests of which none ran."""
    verifications = _verifications(terminalreporter)
    if verifications:
        _summarize(terminalreporter, verifications)
    path = config.getoption("--nnfs-report")
    if path is not None:
        _write_report(Path(path), verifications, config)
        terminalreporter.write_line(f"verification reports: {path}")
    _summarize_gpu(terminalreporter)


def _summarize(terminalreporter: pytest.TerminalReporter, verifications: Sequence[tuple[str, dict[str, Any]]]) -> None:
    verdicts = Counter(report["verdict"] for _, report in verifications)
    margins = [
        (float(report["worst_margin"]), test) for test, report in verifications if report["worst_margin"] is not None
    ]
    told = [
        f"{verdict}: {test}: {finding['label']}: {finding['reason']}"
        for verdict in ("fragile", "undecided")
        for test, report in verifications
        for finding in report["findings"]
        if finding["verdict"] == verdict
    ]
    terminalreporter.write_sep("-", "verified backward passes")
    always = ("correct", "wrong", "undecided")
    names = [name for name in ("correct", "wrong", "fragile", "undecided", "limit") if verdicts[name] or name in always]
    terminalreporter.write_line(", ".join(f"{verdicts[name]} {name}" for name in names))
    if margins:
        margin, test = max(margins)
        terminalreporter.write_line(f"worst margin |difference| / allowed: {margin:.3g} in {test}")
    for line in told:
        terminalreporter.write_line(line, yellow=True)


def _write_report(path: Path, verifications: Iterable[tuple[str, dict[str, Any]]], config: pytest.Config) -> None:
    import shlex

    from nn_from_scratch.report.verification_document import write_verifications

    found = [{"test": test, **report} for test, report in verifications]
    command = shlex.join(["python", "-m", "pytest", *config.invocation_params.args])
    write_verifications(found, commands=(command,), **{REPORT_KINDS[path.suffix]: path})


def _summarize_gpu(terminalreporter: pytest.TerminalReporter) -> None:
    """A green line alone would hide that no GPU test ran."""
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
