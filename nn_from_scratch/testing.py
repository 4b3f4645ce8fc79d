"""Cases of backward passes to verify, and the decorator that runs one test over them. Importing it imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from nn_from_scratch.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GradcheckCase", "draw_input", "gradcheck_cases"]

Test = TypeVar("Test", bound=Callable[..., Any])


class GradcheckCase:
    """A subject, its inputs and the options of its verification, as data.

    Args:
        subject: whatever `nn_from_scratch.verify.check` takes.
        inputs: tensors or arrays; a tuple of integers stands for a normally distributed float64 tensor of that shape,
            drawn under the seed of the run.
        name: readable and unique among the cases of a test; made of the subject's name and the shapes by default.
        options: options of `nn_from_scratch.verify.check`, such as `checks` or `level`.
    """

    def __init__(self, subject: Any, *inputs: Any, name: str | None = None, **options: Any) -> None:
        self.subject = subject
        self.inputs = inputs
        self.options = options
        self.name = name if name is not None else "-".join([_name_of(subject), *map(_text_of, inputs)])

    def draw_inputs(self, *, seed: int = 0) -> tuple[Any, ...]:
        """The inputs, with a drawn tensor in the place of each shape."""
        return tuple(
            draw_input(value, place=place, seed=seed) if _is_shape(value) else value
            for place, value in enumerate(self.inputs)
        )

    def __repr__(self) -> str:
        return f"GradcheckCase({self.name})"


def draw_input(shape: tuple[int, ...], *, place: int, seed: int) -> Tensor:
    """A normally distributed float64 tensor that depends on its shape, its place among the inputs and the seed."""
    import torch

    generator = torch.Generator().manual_seed(1009 * seed + place)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def gradcheck_cases(*cases: GradcheckCase) -> Callable[[Test], Test]:
    """Run a test once for each case, which it takes as its argument `case`.

    Example:
        >>> @gradcheck_cases(GradcheckCase(MyFunction.apply, (4, 3)), GradcheckCase(MyFunction.apply, (1, 1)))
        ... def test_my_function(gradcheck, case):
        ...     gradcheck(case)

    Raises:
        ArgumentError: there is no case, something else than a case, or two of the same name.
    """
    import pytest

    if not cases:
        raise ArgumentError("cases is empty, but a test over no cases would pass without checking anything")
    for case in cases:
        if not isinstance(case, GradcheckCase):
            raise ArgumentError(f"cases holds {case!r}, but each must be a GradcheckCase")
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(f"cases holds two of the name {twice[0]!r}; tell them apart with name=...")
    mark = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])

    def decorate(test: Test) -> Test:
        decorated: Test = mark(test)
        return decorated

    return decorate


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)


def _name_of(subject: Any) -> str:
    if isinstance(subject, tuple):
        return "+".join(map(_name_of, subject))
    owner = getattr(subject, "__self__", None)
    if getattr(subject, "__name__", "") == "apply" and isinstance(owner, type):
        return owner.__name__
    return getattr(subject, "__name__", type(subject).__name__)


def _text_of(value: Any) -> str:
    if _is_shape(value):
        return "x".join(map(str, value)) or "scalar"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        shape = "x".join(map(str, value.shape)) or "scalar"
        return f"{shape}_{str(value.dtype).removeprefix('torch.')}"
    return str(value)
