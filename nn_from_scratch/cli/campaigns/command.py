"""`verify --campaign FILE`: what is refused, what is seen while it runs, and what remains of it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nn_from_scratch.errors import ArgumentError

if TYPE_CHECKING:
    from nn_from_scratch.cli.campaigns.checking import CaseResult

__all__ = ["add_options", "run_campaign"]

#: What one verification is told on the command line, and a campaign in its file.
_SINGLE: dict[str, Any] = {
    "target": None,
    "arg": [],
    "input": [],
    "numpy": False,
    "seed": 0,
    "level": "quick",
    "checks": None,
}


def add_options(parser: argparse.ArgumentParser) -> None:
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
    _check(args)
    from nn_from_scratch.cli.campaigns.plan import read_plan

    cases = read_plan(args.campaign)
    if args.only is not None:
        cases = [case for case in cases if fnmatchcase(case.id, args.only)]
        if not cases:
            raise ArgumentError(f"only is {args.only!r}, but the id of no case in {str(args.campaign)!r} fits it")
    from nn_from_scratch.cli.campaigns.campaign import Campaign
    from nn_from_scratch.cli.campaigns.summary import to_document, to_json, to_text
    from nn_from_scratch.report import publish
    from nn_from_scratch.storage import write_json

    campaign = Campaign(args.campaign, cases, args.folder, jobs=min(args.jobs, len(cases)))
    sys.stdout.write(f"{len(cases)} cases; what comes is kept in {args.folder}\n")
    sys.stdout.flush()
    with _Display() as display:
        try:
            campaign.run(resume=args.resume, on_result=display.on_result)
        except KeyboardInterrupt:
            sys.stderr.write(f"nn-from-scratch: {len(campaign.results)} cases are kept; go on with --resume\n")
            raise
    sys.stdout.write(to_text(campaign))
    if args.json is not None:
        write_json(args.json, to_json(campaign))
    publish(to_document(campaign), markdown=args.markdown, html=args.html)
    return campaign.status


def _check(args: argparse.Namespace) -> None:
    for name, default in _SINGLE.items():
        if getattr(args, name) != default:
            option = "a target" if name == "target" else f"--{name}"
            raise ArgumentError(f"{option} is given beside --campaign, whose file says what to verify: leave it out")
    if args.jobs < 0:
        raise ArgumentError(f"jobs is {args.jobs}, but a number of at least 0 is expected")
    for package in ("pytest", *(("xdist",) if args.jobs else ())):
        if importlib.util.find_spec(package) is None:
            raise ArgumentError(
                f"campaigns need {package}, which is not installed: pip install 'nn_from_scratch[test]'"
            )
    folder: Path = args.folder
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _is_ours(folder))):
        raise ArgumentError(f"folder is {str(folder)!r}, which holds something else; name a new one, for it is emptied")


def _is_ours(folder: Path) -> bool:
    return (folder / "campaign.json").is_file()


class _Display:
    """A live line on a terminal, else a plain line every now and then; what is not correct has a line at once."""

    def __init__(self) -> None:
        self._began = self._said = time.perf_counter()
        self._before: int | None = None
        self._bad = 0
        self._live = sys.stdout.isatty()

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()

    def on_result(self, result: CaseResult, done: int, total: int) -> None:
        self._before = done - 1 if self._before is None else self._before
        start = "\r\x1b[K" if self._live else ""
        if result.verdict != "correct":
            self._bad += 1
            sys.stdout.write(f"{start}{result.verdict}: {result.case}: {result.message}\n")
        now = time.perf_counter()
        if now - self._said >= (0.2 if self._live else 15) or (self._live and result.verdict != "correct"):
            self._said = now
            left = round((total - done) * (now - self._began) / max(done - self._before, 1))
            text = f"{done}/{total} cases  {self._bad} not correct  {left // 60}:{left % 60:02d} left"
            sys.stdout.write(f"{start}{text}" if self._live else f"{text}\n")
        sys.stdout.flush()
