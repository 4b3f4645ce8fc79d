"""The command line `nn-from-scratch`.

Each command is a file here with `HELP`, `DESCRIPTION`, perhaps an `EPILOG`, perhaps `EXTRA` (the extra of the
distribution that it needs), `add_options(parser)` and `run(args) -> int`, and its name in `COMMANDS`. What takes long
to import is imported in `run`, so that help and refusals come at once.
"""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from nn_from_scratch import __version__
from nn_from_scratch.denoise.distributed.launch import is_follower, tell_launcher
from nn_from_scratch.errors import ArgumentError, NNFromScratchError, os_error_text
from nn_from_scratch.extras import require
from nn_from_scratch.storage import is_regular_or_new, is_replaceable, resolved

#: The commands, in the order in which the help lists them.
COMMANDS = ("train", "denoise", "verify", "mutate", "bench", "reproduce")

#: What `verify --json -` gives as its path.
STANDARD_OUTPUT = Path("-")
_INPUTS = ("campaign", "results", "equivalents")  # options and arguments that name a file to read

_EPILOG = """\
examples:
  nn-from-scratch train                       train on built-in photographs and write a folder under runs/
  nn-from-scratch train --epochs 1            the same, but shorter
  nn-from-scratch train --resume              go on with the newest run
  nn-from-scratch denoise photo.jpg           write photo_denoised.png, with the network that comes with the package
  nn-from-scratch denoise photo.jpg --model runs/2026-01-31_12-00-00
  nn-from-scratch verify layers.py:MyGELU --input 4,16     prove a backward pass right, or say what is wrong with it
  nn-from-scratch mutate mykernels:MyGELU --tests tests    would these tests notice a wrong backward?
  nn-from-scratch bench compare --base origin/main         has anything become slower since then?
  nn-from-scratch reproduce --quick           the tables and figures of the report, beside what it published

Each command has its own help, such as nn-from-scratch train --help.
Exit status: 0 for success, 2 for an error (one sentence says which), 130 after Ctrl-C; verify adds 1 for wrong and 3
for undecided, mutate 1 for mutants that no test kills; bench has its own, see nn-from-scratch bench --help."""


class CommandParser(argparse.ArgumentParser):
    """A parser whose error is one sentence, without the usage around it."""

    usage_status = 2  # bench has another one: there 2 says that nothing was decided

    def error(self, message: str) -> NoReturn:
        """Say it, and exit."""
        message = " ".join(message.split())  # a name may hold a newline
        # Whichever rank ends first is the root cause to torchrun, and may be so before rank 0 has said a word.
        tell_launcher(message)
        text = f"nn-from-scratch: error: {message} (see {self.prog} --help)\n"
        self.exit(self.usage_status, None if is_follower() else text)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = CommandParser(
        prog="nn-from-scratch",
        description="A small neural-network engine with hand-written backward passes, which learns to denoise "
        "photographs without ever seeing a clean one; and a verifier for anybody's backward passes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nn-from-scratch {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name in COMMANDS:
        module = import_module(f"nn_from_scratch.cli.{name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=getattr(module, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=module.run, extra=getattr(module, "EXTRA", None))
        module.add_options(command)
    return parser


def command_help(name: str) -> str:
    """What `nn-from-scratch NAME --help` prints.

    Args:
        name: one of `COMMANDS`.
    """
    action = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    parser: argparse.ArgumentParser = action.choices[name]
    return parser.format_help()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        The exit status: 0 for success, 2 for an error, 130 after Ctrl-C.
    """
    _print_anything()
    parser = build_parser()
    words = sys.argv[1:] if argv is None else argv
    try:
        args = parser.parse_args(words)
    except SystemExit as request:  # argparse has answered: with help, with the version or with an error
        return int(request.code or 0)
    if args.command is None:
        parser.print_help()
        return 0
    args.command_line = shlex.join(["nn-from-scratch", *words])
    try:
        if args.extra is not None:
            require(f"nn-from-scratch {args.command}", args.extra)
        status: int = args.run(args)
    except NNFromScratchError as error:
        return report_error(error)
    except OSError as error:
        return report_error(os_error_text(error))
    except KeyboardInterrupt:
        sys.stderr.write("nn-from-scratch: interrupted\n")
        return 130
    return status


def _print_anything() -> None:
    """Let standard output escape what its encoding lacks (the ± of a report in ASCII), as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def expect_output_files(args: argparse.Namespace) -> None:
    """Refuse a path to write to that is a folder or lies in none, or where something would be lost.

    Raises:
        ArgumentError: `--json`, `--markdown` or `--html` is such a path, an input, or the same as another of them.
    """
    inputs = {resolved(given) for name in _INPUTS if isinstance(given := getattr(args, name, None), Path)}
    named: dict[Path, str] = {}
    for name in ("json", "markdown", "html"):
        path: Path | None = getattr(args, name, None)
        if path is None or (name == "json" and path == STANDARD_OUTPUT and args.command == "verify"):
            continue
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise ArgumentError(f"{name} is {str(path)!r}, but a file in an existing folder is expected")
        if resolved(path) in inputs:
            raise ArgumentError(f"{name} is {str(path)!r}, which is read as well: name another file")
        if resolved(path) in named and is_regular_or_new(path):
            raise ArgumentError(f"{name} is {str(path)!r}, and so is {named[resolved(path)]}: name two files")
        if not is_replaceable(path):
            raise ArgumentError(
                f"{name} is {str(path)!r}, a file that this program did not write: name another, or remove it first"
            )
        named[resolved(path)] = name


def report_error(error: object) -> int:
    """Write an error as one line to standard error, and give the exit status that belongs to it."""
    sentence = " ".join(str(error).split()).removesuffix(".")
    sys.stderr.write(f"nn-from-scratch: error: {sentence}\n")
    tell_launcher(sentence)
    return 2
