"""`nn-from-scratch bench`: measure Table I, compare with another commit, report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nn_from_scratch.cli import CommandParser, expect_output_files, report_error
from nn_from_scratch.errors import ArgumentError, DeviceError, NNFromScratchError
from nn_from_scratch.extras import require

if TYPE_CHECKING:
    from nn_from_scratch.bench.processes import Side


_INVALID, _USAGE = 3, 4

HELP = "measure, and tell whether something has become slower"
DESCRIPTION = """\
Benchmarks that can be believed on a machine that others use too. Two things are compared by interleaved pairs in
random order, the reference beside itself as a control, and an interval decides: REGRESSED, OK, INCONCLUSIVE (as many
pairs again, up to the time cap) or INVALID (the control is off). Operators, kernel launches and peak memory of a call
are counted exactly and gated beside the time."""

EPILOG = """\
what a project has to compare: a file (benchmarks.py, tests/bench/gate.py, or --benchmarks FILE) with
  BENCHMARKS = {"name": function, ...}
each function makes ready and gives the function to time; both take no arguments.

examples:
  nn-from-scratch bench compare --base origin/main            is the working tree slower than that?
  nn-from-scratch bench compare --base HEAD~1 --strict --json found.json
  nn-from-scratch bench run table1 --quick                    an epoch of the report's model, ours beside PyTorch
  nn-from-scratch bench run table1 --device cuda --json table1.json
  nn-from-scratch bench report found.json --html found.html

Exit status: 0 fine, 1 a regression or a benchmark that is gone, 2 undecided under --strict, 3 an environment that
allows no comparison, or nothing to compare with, 4 wrong usage, 130 after Ctrl-C."""


def add_options(parser: CommandParser) -> None:
    """Add the options of this command."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    parser.usage_status = _USAGE
    for name, words, add in (
        ("run", "measure and print a table", _add_run),
        ("compare", "compare the working tree with another commit", _add_compare),
        ("report", "turn stored results into Markdown and HTML", _add_report),
    ):
        action = actions.add_parser(name, help=words, description=f"{words.capitalize()}.")
        action.usage_status = _USAGE
        add(action)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("table1",), metavar="WHAT", help="table1: an epoch of the report's model")
    parser.add_argument("--quick", action="store_true", help="fewer samples; the title says so")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda (default: cpu)")
    parser.add_argument("--batch", type=int, default=128, metavar="N", help="samples in a step (default: 128)")
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="epochs that are measured (default: 5)")
    parser.add_argument("--only", metavar="PATTERN", help="rows whose name fits, as in 'Adam: auto'")
    _add_common(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", required=True, metavar="REV", help="a commit of the repository, such as origin/main")
    parser.add_argument("--benchmarks", type=Path, metavar="FILE", help="the project's file of benchmarks")
    parser.add_argument("--tolerance", type=float, default=0.05, metavar="SHARE", help="how much slower is fine (0.05)")
    parser.add_argument("--floor", type=float, default=1e-6, metavar="SECONDS", help="smaller differences do not count")
    parser.add_argument("--alpha", type=float, default=0.01, metavar="P", help="error rate of all together (0.01)")
    parser.add_argument("--processes", type=int, default=6, metavar="N", help="of each side to begin with (at least 6)")
    parser.add_argument("--time-cap", type=float, default=600.0, metavar="SECONDS", help="no more pairs after (600)")
    parser.add_argument("--only", metavar="PATTERN", help="benchmarks whose name fits, as in 'softmax*'")
    parser.add_argument("--strict", action="store_true", help="undecided is an error")
    for option, what in (
        ("--allow-removed", "may be missing, or not run on the base"),
        ("--allow-more", "may need more operators, launches or memory"),
    ):
        parser.add_argument(
            option, action="append", default=[], metavar="NAME", help=f"a benchmark that {what}; repeatable"
        )
    _add_common(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="FILE", help="JSON of `bench run` or `bench compare`")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write Markdown here")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write one self-contained HTML file here")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads that torch computes with (default: 1, as `train` has)",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results to this file as well")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of orders and intervals (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Do what is asked; give the exit status."""
    try:
        _check(args)
        action = {"run": _run, "compare": _compare, "report": _report}[args.action]
        return action(args)
    except (ArgumentError, DeviceError) as error:
        report_error(error)
        return _USAGE
    except NNFromScratchError as error:
        report_error(error)
        return _INVALID


def _check(args: argparse.Namespace) -> None:
    expect_output_files(args)
    for name in ("threads", "batch", "epochs"):
        value: int | None = getattr(args, name, None)
        if value is not None and value < 1:
            raise ArgumentError(f"{name} is {value}, but at least 1 is expected")


def _run(args: argparse.Namespace) -> int:
    from nn_from_scratch.cli.bench_tables import run_table

    return run_table(args)


def _compare(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from nn_from_scratch.bench.gate import Gate
    from nn_from_scratch.bench.processes import Side
    from nn_from_scratch.bench.suite import describe, find_suite, project_root, resolve, worktree
    from nn_from_scratch.bench.verdicts import Rule
    from nn_from_scratch.cli.bench_tables import live_line, new_console, show_result
    from nn_from_scratch.report.results_file import store

    rule = Rule(tolerance=args.tolerance, floor=args.floor, alpha=args.alpha)
    root = project_root(Path.cwd())
    suite = find_suite(root, args.benchmarks)
    commit = resolve(root, args.base)
    with worktree(root, commit) as place, live_line() as say:
        head = Side("the head", root, root / suite, args.threads)
        base = Side(f"the base {args.base}", place, root / suite, args.threads)
        gate = Gate(
            head,
            base,
            rule=rule,
            processes=args.processes,
            time_cap=args.time_cap,
            allow_removed=args.allow_removed,
            allow_more=args.allow_more,
            seed=args.seed,
            on_round=say,
        )
        names = _names(head, root / suite, args.only)
        names_of_base = _names(base, place / suite, args.only) if (place / suite).is_file() else []
        _expect_known(args, {*names, *names_of_base})
        result = gate.run(names, names_of_base)
    result = replace(result, head=describe(root), base=f"{args.base} ({commit})")
    store(args.json, "benchmark", result.to_json(), commands=(args.command_line,))
    show_result(new_console(), result, strict=args.strict)
    return result.status(strict=args.strict)


def _names(side: Side, suite: Path, only: str | None) -> list[str]:
    from fnmatch import fnmatchcase

    with side.process() as process:
        names: list[str] = process.ask("names", path=str(suite))["names"]
    return [name for name in names if only is None or fnmatchcase(name, only)]


def _expect_known(args: argparse.Namespace, names: set[str]) -> None:
    for option in ("allow_removed", "allow_more"):
        for name in getattr(args, option):
            if name not in names:
                raise ArgumentError(f"{option} names {name!r}, but the benchmarks are {', '.join(sorted(names))}")


def _report(args: argparse.Namespace) -> int:
    if not args.results.is_file():
        raise ArgumentError(f"results is {str(args.results)!r}, but there is no such file")
    require("nn-from-scratch bench report", "denoise", "matplotlib")
    from nn_from_scratch.report.benchmarks import benchmark_document
    from nn_from_scratch.report.rendering import to_markdown
    from nn_from_scratch.report.results_file import publish, read_results

    document = benchmark_document(read_results(args.results))
    publish(document, markdown=args.markdown, html=args.html)
    if args.markdown is None and args.html is None:
        sys.stdout.write(to_markdown(document))
    return 0
