"""The pytest plugin: the fixtures `gradcheck` and `ab`, options, markers and the summary. Loading it imports no torch.

It touches no test that does not ask for it: by a fixture, a decorator or a mark of its own, or by an ini option.

Tests marked `nnfs_gpu` (or as the ini option `nnfs_gpu_mark` says) need a CUDA device. What happens to them without one
is chosen by `--nnfs-gpu` or, where that is not given, by the environment variable `NNFS_GPU`: `auto` skips them and
says so at the end, `require` fails them, `off` skips them even where there is a GPU.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nn_from_scratch.testing import GradcheckCase, gradcheck_cases, pyramid
from nn_from_scratch.testing.gradcheck import REPORTS, RUNNING, Gradcheck
from nn_from_scratch.testing.options import (
    GPU_MARK,
    REPORT_KINDS,
    add_options,
    gpu_mode,
    list_checks,
    refuse_nonsense,
)

if TYPE_CHECKING:
    from nn_from_scratch.testing.ab import AB

__all__ = ["Gradcheck", "GradcheckCase", "ab", "gradcheck", "gradcheck_cases", "pyramid"]

_comparing_key = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all with the prefix `--nnfs-`."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and refuse option values that make no sense before anything runs."""
    for name in {GPU_MARK, config.getini("nnfs_gpu_mark")}:
        config.addinivalue_line("markers", f"{name}: needs a CUDA device (see --nnfs-gpu)")
    refuse_nonsense(config)
    as_it_came = getattr(config.option, "benchmark_timer", None) == "time.perf_counter"  # pytest-benchmark's own
    if config.getini("nnfs_benchmark_timer") and as_it_came:
        config.option.benchmark_timer = "nn_from_scratch.bench.machine.synchronized_clock"


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """List the checks, if that is what is asked."""
    if not config.getoption("--nnfs-list"):
        return None
    sys.stdout.write(list_checks())
    return 0


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let `-m` select by the project's mark what this package itself marks, such as the trials of a catalogue."""
    name = item.config.getini("nnfs_gpu_mark")
    if name != GPU_MARK and item.get_closest_marker(GPU_MARK) is not None:
        item.add_marker(name)


def _needs_gpu(item: pytest.Item) -> bool:
    names = (GPU_MARK, item.config.getini("nnfs_gpu_mark"))
    return any(item.get_closest_marker(name) is not None for name in names)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test runs; skip or fail one that needs a GPU and cannot run here."""
    item.config.stash[RUNNING] = item
    if not _needs_gpu(item):
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


@pytest.fixture(scope="session")
def gradcheck(request: pytest.FixtureRequest) -> Gradcheck:
    """Verify a hand-written backward pass in one line.

    Example:
        >>> def test_my_function(gradcheck):
        ...     gradcheck(MyFunction.apply, torch.randn(4, 3, dtype=torch.float64))

    The test fails with the whole report if the backward is wrong, or fragile (see `--nnfs-fragile`), and also if that
    could not be decided.

    It lives as long as the session, so that hypothesis lets a test under `@given` use it.
    """
    return Gradcheck(request.config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the tests that compare durations, which share one error rate."""
    using = sum("ab" in getattr(item, "fixturenames", ()) for item in session.items)
    session.config.stash[_comparing_key] = using


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Tell pytest-benchmark what else decides how fast torch is: GPU, versions, TF32, threads."""
    if not config.getini("nnfs_benchmark_timer"):
        return
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
    _summarize_gpu(terminalreporter, config)


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


def _summarize_gpu(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A green line alone would hide that no GPU test ran."""
    marks = {GPU_MARK, config.getini("nnfs_gpu_mark")}
    ran = skipped = 0
    reason = ""
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if not marks & set(getattr(report, "keywords", {})):
                continue
            if outcome == "skipped":
                skipped += 1
                reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
            elif getattr(report, "when", "") == "call" or outcome in ("failed", "error"):
                ran += 1
    if skipped and not ran:
        terminalreporter.write_sep("-", "GPU tests", yellow=True)
        terminalreporter.write_line(
            f"NOTHING RAN ON A GPU: {skipped} {'test' if skipped == 1 else 'tests'} skipped ({reason})", yellow=True
        )
