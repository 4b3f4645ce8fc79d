"""The benchmarks of a project, a file that names them; and its commits, checked out beside it.

    BENCHMARKS = {"softmax, 64 rows": softmax_of_64_rows, ...}

Each is a function without arguments that makes everything ready and gives the function to time, again without
arguments. A name may be any text; it is how a benchmark is known from one commit to the next.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nn_from_scratch.errors import ArgumentError, BaselineError, NNFromScratchError, SubjectError
from nn_from_scratch.storage import resolved

#: Makes ready, and gives what is timed.
Setup = Callable[[], Callable[[], object]]
#: Where the file is looked for in a project, in this order.
PLACES = ("benchmarks.py", "benchmarks/gate.py", "tests/benchmarks.py", "tests/bench/gate.py")


def find_suite(root: Path, given: Path | None = None) -> Path:
    """The file of benchmarks, relative to the project.

    Args:
        given: the file that `--benchmarks` names, relative to the current folder or absolute.

    Raises:
        ArgumentError: there is no such file, or it lies outside the project.
    """
    if given is None:
        for place in PLACES:
            if (root / place).is_file():
                return Path(place)
        raise ArgumentError(
            f"there is no file of benchmarks in {str(root)!r}: write one of {', '.join(PLACES)}, or name yours with "
            "--benchmarks"
        )
    if not given.is_file():
        raise ArgumentError(f"benchmarks is {str(given)!r}, but there is no such file")
    try:
        return resolved(given).relative_to(resolved(root))
    except ValueError:
        raise ArgumentError(
            f"benchmarks is {str(given)!r}, but a file inside of the project {str(root)!r} is expected"
        ) from None


def load_suite(path: Path) -> dict[str, Setup]:
    """Run the file, and give its benchmarks by name.

    Raises:
        ArgumentError: it defines no `BENCHMARKS`, or something else than a mapping of names to functions.
        SubjectError: it raises; the message is its own error.
    """
    spec = importlib.util.spec_from_file_location("nnfs_benchmarks", path)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"benchmarks is {str(path)!r}, but a Python source file is expected")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nnfs_benchmarks"] = module
    try:
        spec.loader.exec_module(module)
    except NNFromScratchError:
        raise
    except (Exception, SystemExit) as error:  # user code; its sys.exit(0) must not end as our success
        raise SubjectError(f"{path.name} cannot be run: {type(error).__name__}: {error}") from error
    found = getattr(module, "BENCHMARKS", None)
    right = isinstance(found, Mapping) and all(isinstance(k, str) and callable(v) for k, v in found.items())
    if not right or not found:
        raise ArgumentError(
            f"{path.name} has BENCHMARKS = {found!r}, but a mapping of at least one name to a function that makes "
            "ready and gives the function to time is expected"
        )
    return dict(found)


def project_root(folder: Path) -> Path:
    """The top folder of the repository that this folder lies in.

    Raises:
        BaselineError: the folder lies in no repository.
    """
    return Path(_git(folder, "rev-parse", "--show-toplevel"))


def resolve(root: Path, revision: str) -> str:
    """The full name of the commit.

    Raises:
        BaselineError: there is no such commit.
    """
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except BaselineError:
        raise BaselineError(
            f"base is {revision!r}, but there is no such commit in {str(root)!r}: fetch it first (a shallow clone, as "
            "CI makes one, holds the newest commit alone)"
        ) from None


def describe(root: Path) -> str:
    """The commit that is checked out, and whether anything differs from it."""
    name = _git(root, "rev-parse", "HEAD")
    return f"{name} with changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else name


@contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """Context manager that gives a folder with the project at this commit; the project's own files are left alone."""
    with tempfile.TemporaryDirectory(prefix="nnfs-base-") as folder:
        place = Path(folder).resolve() / "base"
        _git(root, "worktree", "add", "--detach", "--force", str(place), commit)
        try:
            yield place
        finally:
            _git(root, "worktree", "remove", "--force", str(place))


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise BaselineError("git is not installed, but comparing with another commit needs it") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BaselineError(f"git {arguments[0]} fails in {str(root)!r}: {said[-1] if said else 'it does not say why'}")
    return done.stdout.strip()
