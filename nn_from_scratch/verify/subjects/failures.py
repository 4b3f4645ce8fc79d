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
        SubjectError: the body raised an `Exception`; it becomes the cause.
    """
    try:
        yield
    except SubjectError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise SubjectError(f"{stage} of {name} raised {type(error).__name__}{': ' + text if text else ''}") from error
