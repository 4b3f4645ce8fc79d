"""`nn-from-scratch bench`: measure, compare with another commit or a stored baseline, report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nn_from_scratch.errors import ArgumentError, BaselineError, DeviceError, NNFromScratchError

if TYPE_CHECKING:
    from nn_from_scratch.bench.baselines import Baseline
    from nn_from_scratch.bench.outcomes import Result
    from nn_from_scratch.bench.processes import Side
    from nn_from_scratch.bench.verdicts import Rule

__all__ = ["TABLES", "add_parser", "run", "store"]

#: What `bench run` can measure beside a project's own file.
TABLES = ("table1", "layers", "scaling")
_INVALID, _USAGE = 3, 4

_DESCRIPTION = """\
Benchmarks that can be believed on a machine that others use too. Two things are compared by interleaved pairs in
random order, the reference beside itself as a control, and an interval decides: REGRESSED, OK, INCONCLUSIVE (as many
pairs again, up to the time cap) or INVALID (the control is off). Operators, kernel launches and peak memory of a call
are counted exactly and gated beside the time."""

_EPILOG = """\
what a project has to compare: a file (benchmarks.py, tests/bench/gate.py, or --benchmarks FILE) with
  BENCHMARKS = {"name": function, ...}
each function makes ready and gives the function to time; both take no arguments.

examples:
  nn-from-scratch bench compare --base origin/main            is the working tree slower than that?
  nn-from-scratch bench compare --base HEAD~1 --strict --json found.json
  nn-from-scratch bench run --json baseline.json              measure this project's benchmarks and store them
  nn-from-scratch bench compare --baseline baseline.json      the same machine, later
  nn-from-scratch bench run table1 --quick                    an epoch of the report's model, ours beside PyTorch
  nn-from-scratch bench run scaling --device cuda --json scaling.json
  nn-from-scratch bench report found.json --html found.html

Exit status: 0 fine, 1 a regression or a benchmark that is gone, 2 undecided under --strict, 3 an environment or a
baseline that allows no comparison, 4 wrong usage, 130 after Ctrl-C."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure, and tell whether something has become slower",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    parser.usage_status = _USAGE
    for name, words, add_options in (
        ("run", "measure and print a table", _add_run),
        ("compare", "hold the working tree against another commit or a baseline", _add_compare),
        ("report", "turn stored results into Markdown and HTML", _add_report),
    ):
        action = actions.add_parser(name, help=words, description=f"{words.capitalize()}.")
        action.usage_status = _USAGE
        add_options(action)
    parser.set_defaults(run=run)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", default="gate", choices=("gate", *TABLES), metavar="WHAT",
        help=f"gate: the project's own benchmarks (default); or {', '.join(TABLES)}",
    )  # fmt: skip
    parser.add_argument("--benchmarks", type=Path, metavar="FILE", help="the project's file of benchmarks")
    parser.add_argument("--quick", action="store_true", help="fewer samples; the title says so")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda (default: cpu)")
    parser.add_argument("--batch", type=int, default=128, metavar="N", help="of table1 (default: 128)")
    parser.add_argument("--epochs", type=int, default=None, metavar="N", help="of table1, measured (default: 5)")
    parser.add_argument(
        "--only", metavar="PATTERN", help="lines whose name fits, as in 'softmax*'; of table1, as in 'Adam: auto'"
    )
    _add_common(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    against = parser.add_mutually_exclusive_group(required=True)
    against.add_argument("--base", metavar="REV", help="a commit of the repository, such as origin/main")
    against.add_argument("--baseline", type=Path, metavar="FILE", help="what `bench run --json` stored on this machine")
    parser.add_argument("--benchmarks", type=Path, metavar="FILE", help="the project's file of benchmarks")
    parser.add_argument(
        "--tolerance", type=float, default=None, metavar="SHARE", help="how much slower is fine (default: 0.05)"
    )
    parser.add_argument("--floor", type=float, default=1e-6, metavar="SECONDS", help="a difference a call that is none")
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
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="of torch (default: 1, as train)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results to this file as well")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of orders and intervals (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Do what is asked; give the exit status."""
    from nn_from_scratch.cli import report_error

    try:
        _check(args)
        action = {"run": _run, "compare": _compare, "report": _report}[args.action]
        return action(args)
    except BaselineError as error:
        report_error(error)
        return _INVALID
    except (ArgumentError, DeviceError) as error:
        report_error(error)
        return _USAGE
    except NNFromScratchError as error:
        report_error(error)
        return _INVALID


def _check(args: argparse.Namespace) -> None:
    for name in ("json", "markdown", "html"):
        path: Path | None = getattr(args, name, None)
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise ArgumentError(f"{name} is {str(path)!r}, but a file in an existing folder is expected")
    for name in ("threads", "batch", "epochs"):
        value: int | None = getattr(args, name, None)
        if value is not None and value < 1:
            raise ArgumentError(f"{name} is {value}, but at least 1 is expected")


def _run(args: argparse.Namespace) -> int:
    if args.what != "gate":
        from nn_from_scratch.cli.bench_tables import run_table

        return run_table(args)
    from nn_from_scratch.cli.bench_display import show_baseline

    found = _measured(args, processes=6 if not args.quick else 2)
    if args.only is not None and not found.seconds:
        raise ArgumentError(f"only is {args.only!r}, which fits no benchmark of this project")
    sys.stdout.write(show_baseline(found))
    store(args, found.to_json())
    return 0


def _compare(args: argparse.Namespace) -> int:
    from nn_from_scratch.bench.verdicts import TOLERANCE, Rule
    from nn_from_scratch.cli.bench_display import show_result

    tolerance = TOLERANCE["cpu"] if args.tolerance is None else args.tolerance
    rule = Rule(tolerance=tolerance, floor=args.floor, alpha=args.alpha)
    result = _against_baseline(args, rule) if args.baseline is not None else _against_commit(args, rule)
    store(args, result.to_json())
    sys.stdout.write(show_result(result, strict=args.strict))
    return result.status(strict=args.strict)


def _against_commit(args: argparse.Namespace, rule: Rule) -> Result:
    from dataclasses import replace

    from nn_from_scratch.bench.gate import Gate
    from nn_from_scratch.bench.processes import Side
    from nn_from_scratch.bench.revisions import describe, project_root, resolve, worktree
    from nn_from_scratch.bench.suite import find_suite

    root = project_root(Path.cwd())
    suite = find_suite(root, args.benchmarks)
    commit = resolve(root, args.base)
    threads = args.threads or 1
    with worktree(root, commit) as place:
        head = Side("the head", root, root / suite, threads)
        base = Side(f"the base {args.base}", place, root / suite, threads)
        gate = Gate(
            head,
            base,
            rule=rule,
            processes=args.processes,
            time_cap=args.time_cap,
            allow_removed=args.allow_removed,
            allow_more=args.allow_more,
            seed=args.seed,
            on_round=_say,
        )
        names = _names(head, root / suite, args.only)
        names_of_base = _names(base, place / suite, args.only) if (place / suite).is_file() else []
        _expect_known(args, {*names, *names_of_base})
        result = gate.run(names, names_of_base)
    return replace(result, head=describe(root), base=f"{args.base} ({commit})")


def _against_baseline(args: argparse.Namespace, rule: Rule) -> Result:
    if not args.baseline.is_file():
        raise BaselineError(f"baseline is {str(args.baseline)!r}, but there is no such file")
    from fnmatch import fnmatchcase

    from nn_from_scratch.bench.baselines import Baseline, compare_with_baseline
    from nn_from_scratch.report import read_results

    try:
        stored = read_results(args.baseline)["results"]
    except ArgumentError as error:
        raise BaselineError(str(error)) from error
    baseline = Baseline.from_json(stored)
    if args.only is not None:
        kept = {name: groups for name, groups in baseline.seconds.items() if fnmatchcase(name, args.only)}
        baseline = Baseline(machine=baseline.machine, commit=baseline.commit, seconds=kept, counts=baseline.counts)
    found = _measured(args, processes=max(args.processes, 6))
    _expect_known(args, {*found.seconds, *baseline.seconds})
    return compare_with_baseline(
        found,
        baseline,
        rule=rule,
        allow_removed=args.allow_removed,
        allow_more=args.allow_more,
        seed=args.seed,
    )


def _measured(args: argparse.Namespace, *, processes: int) -> Baseline:
    from nn_from_scratch.bench.baselines import measure
    from nn_from_scratch.bench.processes import Side
    from nn_from_scratch.bench.revisions import describe, project_root
    from nn_from_scratch.bench.suite import find_suite

    try:
        root = project_root(Path.cwd())
        commit = describe(root)
    except BaselineError:
        root, commit = Path.cwd(), "unknown"  # measuring needs no repository; only another commit does
    suite = root / find_suite(root, args.benchmarks)
    side = Side("this project", root, suite, args.threads or 1)
    names = _names(side, suite, args.only)
    return measure(side, names, commit=commit, processes=processes, on_round=_say)


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
    from nn_from_scratch.report.benchmarks import benchmark_document
    from nn_from_scratch.report import to_markdown
    from nn_from_scratch.report import publish
    from nn_from_scratch.report import read_results

    document = benchmark_document(read_results(args.results))
    publish(document, markdown=args.markdown, html=args.html)
    if args.markdown is None and args.html is None:
        sys.stdout.write(to_markdown(document))
    return 0


def store(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write the results to the file of `--json`, where one is named."""
    if args.json is not None:
        from nn_from_scratch.report import envelope
        from nn_from_scratch.storage import write_json

        write_json(args.json, envelope("benchmark", results, commands=(args.command_line,)))


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
