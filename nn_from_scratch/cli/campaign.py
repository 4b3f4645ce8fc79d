"""`verify --campaign FILE`: many subjects and cases from one file, over the workers of pytest-xdist.

`campaign_file` reads the file, `campaign_plugin` makes its cases tests of a session of pytest, and `campaign_report`
tells what came of them. docs/campaigns.md describes the file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.extras import require
from nn_from_scratch.storage import expect_own_folder, resolved

if TYPE_CHECKING:
    import pytest

    from nn_from_scratch.cli.campaign_plugin import CaseResult
    from nn_from_scratch.cli.campaign_report import VerificationCampaign


_PACKAGE = Path(__file__).parents[1]
#: What a campaign writes into its folder.
_FILES = ("campaign.json", "results.jsonl", "pytest.ini", "overdue-*.txt")
#: What one verification is told on the command line, and a campaign in its file.
_SINGLE: dict[str, Any] = {
    "target": None,
    "arg": [],
    "input": [],
    "surrogate": None,
    "numpy": False,
    "seed": 0,
    "level": "quick",
    "checks": None,
    "fragile": "fail",
    "strict": False,
    "time_limit": 60.0,
}


def add_campaign_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a campaign."""
    group = parser.add_argument_group("campaigns: many subjects and cases (docs/campaigns.md)")
    group.add_argument("--campaign", type=Path, metavar="FILE", help="verify what this TOML file lists")
    group.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
        help="worker processes (default: one for each core); 0 for none, without a limit of time for a case",
    )  # fmt: skip
    group.add_argument("--only", metavar="PATTERN", help="the cases whose id fits, as in 'gelu/*'")
    group.add_argument(
        "--folder", type=Path, default=Path(".nnfs_campaign"), metavar="DIR",
        help="where results are kept as they come (default: .nnfs_campaign)",
    )  # fmt: skip
    group.add_argument("--resume", action="store_true", help="go on with what an interrupted campaign left there")


def run_campaign(args: argparse.Namespace) -> int:
    """Run a campaign; give the exit status."""
    _refuse_what_makes_no_sense(args)
    from nn_from_scratch.cli.campaign_file import read_campaign

    cases = read_campaign(args.campaign)
    if args.only is not None:
        cases = [case for case in cases if fnmatchcase(case.id, args.only)]
        if not cases:
            raise ArgumentError(f"only is {args.only!r}, but the id of no case in {str(args.campaign)!r} fits it")
    from nn_from_scratch.cli.campaign_report import VerificationCampaign
    from nn_from_scratch.cli.display import ProgressLine, counted, say
    from nn_from_scratch.report.results_file import publish
    from nn_from_scratch.storage import write_json

    campaign = VerificationCampaign(args.campaign, cases)
    with ProgressLine() as progress:

        def on_result(result: CaseResult) -> None:
            if not result.passed:
                say(progress.console, f"{result.verdict}: {result.case}: {result.message}")
            done = len(campaign.results)
            bad = sum(not found.passed for found in campaign.results.values())
            progress.show(done, len(cases), f"{done}/{len(cases)} cases  {bad} not passed")

        say(progress.console, f"{counted(len(cases), 'case')}; results are kept in {args.folder}")
        try:
            _run(campaign, args.folder, jobs=min(args.jobs, len(cases)), resume=args.resume, on_result=on_result)
        except KeyboardInterrupt:
            sys.stderr.write(f"nn-from-scratch: {counted(len(campaign.results), 'result')} kept; go on with --resume\n")
            raise
    sys.stdout.write(campaign.to_text())
    if args.json is not None:
        write_json(args.json, campaign.to_json())
    publish(campaign.to_document(), markdown=args.markdown, html=args.html)
    return campaign.status


def _refuse_what_makes_no_sense(args: argparse.Namespace) -> None:
    for name, default in _SINGLE.items():
        if getattr(args, name) != default:
            option = "a target" if name == "target" else f"--{name}"
            raise ArgumentError(f"{option} is given beside --campaign, whose file says what to verify: leave it out")
    if args.jobs < 0:
        raise ArgumentError(f"jobs is {args.jobs}, but a number of at least 0 is expected")
    require("verify --campaign", "test", "pytest", *(("xdist",) if args.jobs else ()))
    expect_own_folder(args.folder)


def _run(
    campaign: VerificationCampaign, folder: Path, *, jobs: int, resume: bool, on_result: Callable[[CaseResult], None]
) -> None:
    """Verify every case that has no result yet, and add the results to the campaign.

    Raises:
        ArgumentError: there is nothing to resume, or it belongs to another campaign or other sources.
        SubjectError: the session ended before all cases were done.
        KeyboardInterrupt: by Ctrl-C; what is done is kept.
    """
    import pytest

    from nn_from_scratch.cli.campaign_file import fingerprint
    from nn_from_scratch.storage import prepare_folder, write_json

    began = time.monotonic()
    mark = fingerprint(campaign.path, campaign.cases)
    if resume:
        _load_results(campaign, folder, mark)
    else:
        prepare_folder(folder, ours=_FILES)
    write_json(folder / "campaign.json", {"fingerprint": mark, "waiting": campaign.missing})
    if campaign.missing:
        with (folder / "results.jsonl").open("a", encoding="utf-8") as file:

            def note(result: CaseResult) -> None:
                if result.case not in campaign.results:
                    campaign.results[result.case] = result
                    file.write(json.dumps(asdict(result)) + "\n")
                    file.flush()
                    on_result(result)

            status = _run_session(campaign.path, folder, jobs=jobs, note=note)
        if status == pytest.ExitCode.INTERRUPTED and campaign.missing:
            raise KeyboardInterrupt
    missing = campaign.missing
    if missing:
        raise SubjectError(f"the session ended before {len(missing)} cases were done, the first is {missing[0]!r}")
    campaign.seconds = time.monotonic() - began


def _run_session(path: Path, folder: Path, *, jobs: int, note: Callable[[CaseResult], None]) -> int:
    """Have pytest run the cases that wait; give its exit status."""
    import pytest

    from nn_from_scratch.cli.campaign_plugin import CaseResult

    class Recorder:
        @pytest.hookimpl
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            found = dict(report.user_properties)
            if "campaign" in found:
                note(CaseResult(**json.loads(str(found["campaign"]))))
            elif report.failed:
                note(_result_of_ended(report, folder))

    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\n", encoding="utf-8")
    arguments = [
        str(path),
        *("-c", str(settings), f"--rootdir={resolved(path).parent}", "--noconftest", "--capture=no"),
        *("-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:warnings"),
        *("-p", "nn_from_scratch.cli.campaign_plugin"),
    ]
    if jobs:
        # One case at a time goes to a worker: they take very different times.
        arguments += ["-p", "xdist.plugin", f"-n{jobs}", "--maxschedchunk=1", "--max-worker-restart=1000000"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        environment.setenv("PYTEST_ADDOPTS", "")
        environment.setenv("OMP_NUM_THREADS", "1")  # there is a process for every core
        return int(pytest.main(arguments, plugins=[Recorder()]))


def _result_of_ended(report: pytest.TestReport, folder: Path) -> CaseResult:
    """The result of a case without a report: its process has ended, or this program has a fault."""
    from nn_from_scratch.cli.campaign_plugin import CaseResult, overdue_file

    case = report.nodeid.partition("::")[2]
    trace = overdue_file(folder, case)
    text = trace.read_text(encoding="utf-8") if trace.is_file() else ""
    if text:
        message = "the limit of time of this case was reached"
        return CaseResult(case=case, verdict="undecided", message=message, text=_where(text))
    if str(report.when) == "???":  # as xdist says it
        return CaseResult(case=case, verdict="error", message="the process that verified it crashed")
    text = str(report.longrepr)
    return CaseResult(case=case, verdict="error", message=(text.strip().splitlines() or ["no report"])[-1], text=text)


def _where(trace: str) -> str:
    """The frames of the code that was verified, out of the traces of all threads, innermost first."""
    threads = trace.split("\n\n")
    working = next((thread for thread in threads if " in perform" in thread), threads[-1])
    frames = [line for line in working.splitlines() if line.startswith("  File ")]
    own = list(takewhile(lambda line: str(_PACKAGE) not in line, frames)) or frames[:5]
    return "\n".join(["it was here, innermost first:", *own])


def _load_results(campaign: VerificationCampaign, folder: Path, mark: str) -> None:
    from nn_from_scratch.cli.campaign_plugin import CaseResult, read_settings
    from nn_from_scratch.storage import read_json_lines

    if not (folder / "campaign.json").is_file():
        raise ArgumentError(f"{str(folder)!r} holds no campaign to resume; leave out --resume to start one")
    if read_settings(folder)["fingerprint"] != mark:
        raise ArgumentError(
            f"{str(folder)!r} holds another campaign, or one over other sources; leave out --resume to start anew"
        )
    for values in read_json_lines(folder / "results.jsonl"):
        campaign.results[values["case"]] = CaseResult(**values)
