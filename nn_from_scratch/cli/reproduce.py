"""`nn-from-scratch reproduce`: the report's tables and figures, done again beside their published numbers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nn_from_scratch.reproduction.parts import KINDS
from nn_from_scratch.storage import resolved

EXTRA = "denoise"
HELP = "do the report's tables and figures again"
DESCRIPTION = """\
Do every table and figure of the report again and say of each of its claims whether it holds here. Writes results.json,
report.md and report.html into a folder. A run that was stopped goes on where it was when it is started again with the
same options."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--quick", action="store_true", help="fewer samples, epochs and seeds: minutes instead of most of an hour"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PART",
        help=f"do this part alone and say what it decides; repeatable: {', '.join(KINDS)}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder, new, empty, or of the run to go on with (default: reproduction, -quick, the parts' names)",
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda or cuda:NUMBER (default: cpu)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="folder of the course's train_data.pkl and val_data.pkl, or of pictures "
        "(default: photographs of scikit-image)",
    )


def run(args: argparse.Namespace) -> int:
    """Reproduce; give the exit status."""
    from nn_from_scratch.reproduction import Plan, reproduce

    data = None if args.data is None else str(resolved(args.data.expanduser()))
    plan = Plan.chosen(quick=args.quick, device=args.device, data=data)
    name = "-".join(["reproduction", *(["quick"] if args.quick else []), *args.only])
    out: Path = args.out or Path(name)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    # A GPU is shared by two processes no faster than it is used by one.
    workers = 2 if plan.device == "cpu" else 1
    try:
        content = reproduce(plan, out, workers=workers, say=say, only=args.only)
    except KeyboardInterrupt:
        command = plan.command(out=out, only=args.only)
        sys.stderr.write(f"nn-from-scratch: interrupted: what is done is kept in {out}; go on with: {command}\n")
        return 130
    for claim in content["results"]["claims"]:
        say(f"{claim['section']}: {claim['verdict']}: {claim['claim']} {claim['numbers']}")
    return 0
