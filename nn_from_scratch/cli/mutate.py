"""`nn-from-scratch mutate`: are the tests good enough to fail on a wrong backward pass?"""

from __future__ import annotations

import argparse
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from nn_from_scratch.cli import expect_output_files
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.extras import require
from nn_from_scratch.storage import expect_own_folder

if TYPE_CHECKING:
    from nn_from_scratch.mutation.mutant import MutantResult


HELP = "run tests against faulty backward passes, and list the faults that none kills"
DESCRIPTION = """\
Mutation testing for backward passes. Faulty variants of a function are made, by edits of its source (an operator, a
term, a number, a condition, an argument, a statement) and by faults in what it returns (wrong sign, N times too large,
transposed, a stale gradient, right in float64 alone, ...). Your own pytest suite is run against each; what no test
kills is shown with its diff. No file is changed: a mutant lives in a forked process alone."""

EPILOG = """\
target:
  package.module:Class        the backward of a class: a torch.autograd.Function, a module, a layer
  package.module:function     a function, or Class.method, or several with commas, or a pattern such as *.backward
  package                     every function in it that is called like a backward pass
  path/to/file.py:name        the same in a file, if the tests import that file

tests:
  --tests tests/unit                   a folder, a file or file.py::test; without it, what pytest runs by itself
  --tests quick=tests/unit --tests slow=tests/slow --every
                                       several groups, in this order: which kills first, and how many each kills alone

examples:
  nn-from-scratch mutate mykernels.gelu:MyGELU --tests tests/test_gelu.py
  nn-from-scratch mutate mykernels --jobs 8 --json mutants.json
  nn-from-scratch mutate course/layers.py:relu_backward --tests course/test_layers.py --kind result
  nn-from-scratch mutate mykernels --resume            go on after Ctrl-C

Exit status: 0 every mutant is killed, 1 some survive, 2 error, 130 after Ctrl-C."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("target", nargs="+", metavar="TARGET", help="what to mutate")
    parser.add_argument(
        "--tests", action="append", default=[], metavar="[NAME=]PATH", help="tests to run; may be given several times"
    )
    parser.add_argument(
        "--every", action="store_true", help="run every group on every mutant, not only until one kills it"
    )
    parser.add_argument(
        "--beside", "--reference-suite", dest="reference_suites", action="append", default=[], metavar="[NAME=]PATH",
        help="tests to compare with, which do not count",
    )  # fmt: skip
    parser.add_argument(
        "--kind", choices=("source", "result", "both"), default="both", help="of mutants (default: both)"
    )
    parser.add_argument("--only", metavar="PATTERN", help="mutants whose id fits, as in '*/drop term/*'")
    parser.add_argument("--list", action="store_true", help="show the mutants that edits of the source make, and stop")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one for each core)"
    )
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS",
        help="time for one mutant (default: 20 s and five times what its tests take without it)",
    )  # fmt: skip
    parser.add_argument(
        "--equivalents", type=Path, metavar="TOML", help="mutants that are no faults: [[equivalent]] id, change, reason"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".nnfs_mutation"), metavar="DIR",
        help="where results are kept as they come (default: .nnfs_mutation)",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with what an interrupted run left in the folder")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything to this file as well")
    parser.add_argument(
        "--pytest-arg", action="append", default=[], metavar="ARG", help="for pytest, as in --pytest-arg=-mnot\\ slow"
    )


def run(args: argparse.Namespace) -> int:
    """Mutate; give the exit status."""
    _check(args)
    require("nn-from-scratch mutate", "test", "pytest")
    from nn_from_scratch.cli.display import ProgressLine, counted, print_table, say
    from nn_from_scratch.mutation.coordinator import MutationCampaign
    from nn_from_scratch.mutation.equivalents import check_equivalents, load_equivalents
    from nn_from_scratch.mutation.functions import find_functions
    from nn_from_scratch.mutation.source import source_mutants
    from nn_from_scratch.mutation.summary import MutationSummary
    from nn_from_scratch.storage import write_results

    functions = find_functions(args.target)
    if args.list:
        for mutant in (mutant for function in functions for mutant in source_mutants(function)):
            sys.stdout.write(f"{mutant.id}\n{mutant.diff}\n\n")
        return 0
    claims = load_equivalents(args.equivalents) if args.equivalents is not None else {}
    groups = _groups(args.tests, "tests") or {"": ""}
    references = _groups(args.reference_suites, "beside")
    if groups.keys() & references.keys():
        raise ArgumentError(f"beside names a group {min(groups.keys() & references.keys())!r}, which tests names too")
    campaign = MutationCampaign(
        functions,
        groups | references,
        args.folder,
        kind=args.kind,
        every_group=args.every,
        reference_suites=[*references],
        jobs=args.jobs,
        limit=args.limit,
        pytest_args=args.pytest_arg,
    )
    survived = 0
    with ProgressLine() as progress:

        def on_start(mutants: int, tests: int) -> None:
            say(
                progress.console,
                f"{counted(mutants, 'mutant')}, {counted(tests, 'test')}; results are kept in {args.folder}",
            )
            progress.begin()

        def on_result(result: MutantResult, done: int, total: int) -> None:
            nonlocal survived
            survived += not result.outcome.killed
            progress.show(
                done, total, f"{done}/{total} runs{f' {result.group}' if result.group else ''}  {survived} not killed"
            )

        say(progress.console, f"{counted(len(functions), 'function')}; running the tests once without a mutant")
        campaign.run(
            resume=args.resume,
            only=lambda mutant: args.only is None or fnmatchcase(mutant.id, args.only),
            on_start=on_start,
            on_result=on_result,
        )
    if args.only is None and args.kind == "both":
        check_equivalents(claims, campaign.mutants, functions)
    summary = MutationSummary(campaign, claims)
    sys.stdout.write(summary.findings())
    print_table(summary.table())
    sys.stdout.write(f"\n{summary.headline()}\n")
    if args.json is not None:
        write_results(args.json, summary.to_json())
    if not summary.mutants:
        raise ArgumentError("there is no mutant: the functions compute nothing that an edit could change")
    return 1 if summary.survivors or summary.refuted else 0


def _check(args: argparse.Namespace) -> None:
    if args.jobs < 1:
        raise ArgumentError(f"jobs is {args.jobs}, but at least 1 is expected")
    if args.limit is not None and not args.limit > 0:
        raise ArgumentError(f"limit is {args.limit}, but a positive number of seconds is expected")
    expect_output_files(args)
    expect_own_folder(args.folder)


def _groups(texts: list[str], option: str) -> dict[str, str]:
    groups: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name.replace("-", "_").isidentifier():
            name, path = Path(text).name, text
        if not Path(path.partition("::")[0]).exists():
            raise ArgumentError(f"{option} is {text!r}, but there is no {path.partition('::')[0]!r}")
        if name in groups:
            raise ArgumentError(f"{option} names two groups {name!r}; tell them apart as in --{option} other={path}")
        groups[name] = path
    return groups
