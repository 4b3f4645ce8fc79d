"""Exceptions of a subject, told apart from ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nn_from_scratch.errors import SubjectError

__all__ = ["blame"]


@contextmanager
def blame(name: str, stage: str) -> Iterator[None]:
    """Turn whatever the subject raises into a `SubjectError` that names it.

    Raises:
        SubjectError: the body raised an exception or called `sys.exit`; what it raised becomes the cause.
    """
    try:
        yield
    except SubjectError:
        raise
    except (Exception, SystemExit) as error:  # a subject may raise anything; sys.exit(0) must not end as a success
        text = " ".join(str(error).split())
        raise SubjectError(f"{stage} of {name} raised {type(error).__name__}{': ' + text if text else ''}") from error
