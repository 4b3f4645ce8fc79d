"""`nn-from-scratch verify`: prove a hand-written backward right, or say what is wrong with it."""

from __future__ import annotations

import argparse
import shlex
import sys
from ast import literal_eval
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nn_from_scratch.cli import STANDARD_OUTPUT, expect_output_files, report_error
from nn_from_scratch.cli.campaign import add_campaign_options, run_campaign
from nn_from_scratch.cli.contained import Answer, OnStep, OverdueError, run_contained
from nn_from_scratch.errors import ArgumentError, SubjectError

if TYPE_CHECKING:
    from nn_from_scratch.verify import Report


HELP = "prove a hand-written backward pass right, or name its fault"
DESCRIPTION = """\
Verify a backward pass that somebody wrote by hand: a torch.autograd.Function or any differentiable callable on
tensors, a torch.nn.Module, a module of this package, a pair (forward, backward) on tensors or NumPy arrays, or a layer
object with forward(x) and backward(dy). Gradients are compared with finite differences whose tolerance comes from
their own error estimate; then come the contract checks. A wrong gradient is located, and its fault named."""

EPILOG = """\
target:
  package.module:name     importable from here (the current folder counts)
  path/to/file.py:name    a file
  name may be dotted, and may be a pair: file.py:forward,backward

arguments and inputs:
  --arg 3 --arg bias=False   what a class is made with, or what a function is called with beside its inputs (Python
                             literals): each name in its place, the others behind the inputs
  --input 4,3,8,8            a normally distributed tensor of this shape, of the dtype of what the subject holds or
                             float64
  --input 4,3:float32        of this dtype
  --input 4:int64<10         integers from 0 up to, not including, 10
  --input scalar             a tensor without axes

examples:
  nn-from-scratch verify mykernels.gelu:MyGELU --input 4,16
  nn-from-scratch verify course/layers.py:Affine --arg 16 --arg 8 --input 4,16
  nn-from-scratch verify course/layers.py:relu_forward,relu_backward --input 4,16
  nn-from-scratch verify course/layers.py:GroupNorm --input 2,6,4 --arg groups=3
  nn-from-scratch verify nn_from_scratch:Conv2d --arg 3 --arg 4 --arg kernel_size=3 --input 2,3,8,8 --level full
  nn-from-scratch verify --campaign kernels.toml --jobs 8 --html report.html

Exit status: 0 passed, 1 wrong, or fragile or a limit where that counts, 2 error, 3 undecided; of a campaign 1 if a case
is such a failure, else 2 if one could not be verified, else 3 if one is undecided."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("target", nargs="?", metavar="TARGET", help="what to verify, as module:name or file.py:name")
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="VALUE",
        help="argument of the constructor or, of a function, of the call: VALUE or NAME=VALUE; may be given several "
        "times",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="SHAPE[:DTYPE]",
        help="an input to draw; once for each input of the subject",
    )
    parser.add_argument(
        "--differentiable",
        metavar="NAMES",
        help="the inputs whose gradients are checked, as in x,weight (default: all that are floating-point)",
    )
    parser.add_argument(
        "--surrogate",
        metavar="TARGET",
        help="the function whose derivative the backward is meant to be, as module:name or file.py:name (default: the "
        "forward)",
    )
    parser.add_argument("--numpy", action="store_true", help="hand the inputs over as NumPy arrays")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything that is drawn (default: 0)")
    parser.add_argument(
        "--level", choices=("quick", "full"), default="quick", help="how much is looked at (default: quick)"
    )
    parser.add_argument(
        "--checks",
        metavar="NAMES",
        help="these checks alone, as in gradient,determinism; or all but some, as in -copies",
    )
    parser.add_argument(
        "--fragile",
        choices=("fail", "report"),
        default="fail",
        help="whether a gradient that is right at these inputs and silently wrong elsewhere is a failure (default: "
        "fail)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="count what the backward does not take, such as an empty batch, as well"
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="that importing the target, making it, and each check may take (default: 60)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        help="write the results to this file as well; - prints them in the place of the report (docs/results.md)",
    )
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the report as Markdown to this file")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write the report as one page to this file")
    add_campaign_options(parser)


def run(args: argparse.Namespace) -> int:
    """Verify; give the exit status."""
    expect_output_files(args)
    if args.campaign is not None:
        return run_campaign(args)
    if args.target is None:
        raise ArgumentError("the target is missing: give module:name or file.py:name, or --campaign FILE for many")
    positional, named = _arguments(args.arg)
    checks = None if args.checks is None else [name.strip() for name in args.checks.split(",") if name.strip()]
    if not args.input:
        raise ArgumentError("--input is missing: give one for each input of the subject, as in --input 4,3")
    if not args.time_limit > 0:
        raise ArgumentError(f"time-limit is {args.time_limit:g}, but a positive number of seconds is expected")
    work = partial(_verify, args, positional, named, checks)
    try:
        answer = run_contained(work, limit=args.time_limit)
    except OverdueError as error:
        sys.stdout.write(f"{args.target}: UNDECIDED\n  {error}\n")
        return 3
    if answer.error:
        return report_error(answer.error)
    sys.stdout.write(answer.text)
    return answer.status


def _verify(
    args: argparse.Namespace,
    positional: list[object],
    named: dict[str, object],
    checks: list[str] | None,
    on_step: OnStep,
) -> Answer:
    """What is done in a process of its own."""
    on_step("importing torch")
    from nn_from_scratch.cli.target import arrange_call, draw_inputs, load_surrogate, load_target, make_subject
    from nn_from_scratch.verify import check

    on_step(f"importing {args.target}")
    target = load_target(args.target)
    on_step(f"making {args.target}")
    subject = make_subject(target, positional, named)
    inputs: list[object] = draw_inputs(args.input, subject, seed=args.seed, numpy=args.numpy)
    keywords: dict[str, object] = {}
    if subject is target:  # nothing was made with the arguments: they are those of the call
        inputs, keywords = arrange_call(subject, inputs, positional, named)
    surrogate = None if args.surrogate is None else load_surrogate(args.surrogate)
    listed = None if args.differentiable is None else args.differentiable.split(",")
    try:
        report = check(
            subject,
            *inputs,
            seed=args.seed,
            level=args.level,
            checks=checks,
            fragile=args.fragile,
            strict=args.strict,
            keywords=keywords or None,
            differentiable=listed and [name.strip() for name in listed],
            surrogate=surrogate,
            time_limit=args.time_limit,
            on_check=lambda name: on_step(f"in the check {name}"),
        )
    except SubjectError as error:
        # A forward mostly raises because it was handed other inputs than it takes.
        given = " ".join(f"--input {text}" for text in args.input)
        raise SubjectError(f"{error} (called with {given})") from error
    on_step("writing the report")
    text = f"{report}\n"
    if args.json == STANDARD_OUTPUT:
        from nn_from_scratch.report.results_file import envelope
        from nn_from_scratch.report.verification_document import summarize_verifications
        from nn_from_scratch.storage import json_text

        results = summarize_verifications([report.to_dict()])
        text = json_text(envelope("verification", results, commands=[_command(args)]))
        args.json = None
    if args.json or args.markdown or args.html:
        _write(args, report)
    return Answer(0 if report.passed else 1 if report.failed else 3, text)


def _write(args: argparse.Namespace, report: Report) -> None:
    from nn_from_scratch.report.verification_document import write_verifications

    write_verifications(
        [report.to_dict()], json=args.json, markdown=args.markdown, html=args.html, commands=[_command(args)]
    )


def _command(args: argparse.Namespace) -> str:
    """The command line that verifies the same again."""
    words = ["nn-from-scratch", "verify", args.target]
    words += [f"--{name}={value}" for name in ("arg", "input") for value in getattr(args, name)]
    words += [f"--differentiable={args.differentiable}"] if args.differentiable is not None else []
    words += [f"--surrogate={args.surrogate}"] if args.surrogate is not None else []
    words += ["--numpy"] if args.numpy else []
    words += [f"--seed={args.seed}", f"--level={args.level}"]
    words += [f"--checks={args.checks}"] if args.checks is not None else []
    words += [f"--fragile={args.fragile}"] if args.fragile != "fail" else []
    words += ["--strict"] if args.strict else []
    words += [f"--time-limit={args.time_limit:g}"] if args.time_limit != 60 else []
    return shlex.join(words)


def _arguments(texts: list[str]) -> tuple[list[object], dict[str, object]]:
    positional: list[object] = []
    named: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            named[name] = _literal(value)
        else:
            positional.append(_literal(text))
    return positional, named


def _literal(text: str) -> object:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a bare word is a string, as on every command line
