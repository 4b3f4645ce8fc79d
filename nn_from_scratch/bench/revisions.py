"""Commits of a project, checked out beside it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nn_from_scratch.errors import BaselineError

__all__ = ["describe", "project_root", "resolve", "worktree"]


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise BaselineError("git is not installed, but comparing with another commit needs it") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BaselineError(f"git {arguments[0]} fails in {str(root)!r}: {said[-1] if said else 'it does not say why'}")
    return done.stdout.strip()


def project_root(folder: Path) -> Path:
    """The top folder of the repository that this folder lies in.

    Raises:
        BaselineError: it lies in none.
    """
    return Path(_git(folder, "rev-parse", "--show-toplevel"))


def resolve(root: Path, revision: str) -> str:
    """The full name of the commit.

    Raises:
        BaselineError: there is none of this name.
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
    """A folder with the project at this commit, removed with the context; the project's own files are left alone."""
    with tempfile.TemporaryDirectory(prefix="nnfs-base-") as folder:
        place = Path(folder).resolve() / "base"
        _git(root, "worktree", "add", "--detach", "--force", str(place), commit)
        try:
            yield place
        finally:
            _git(root, "worktree", "remove", "--force", str(place))
