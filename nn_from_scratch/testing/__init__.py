"""Backward passes to verify, as data, and the decorators that run one test over them. Importing it imports no torch.

`gradcheck_cases` is for a few subjects as they are; `pyramid` for a catalogue of classes, their cases and references.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.catalogue import Case, Entry, Exemption, OptimizerSpec, Spec, Trial, name_of, trials_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Case",
    "Exemption",
    "GradcheckCase",
    "OptimizerSpec",
    "Spec",
    "Trial",
    "draw_input",
    "gradcheck_cases",
    "pyramid",
]

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
        self.name = name if name is not None else "-".join([name_of(subject), *map(_text_of, inputs)])

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
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


def pyramid(
    catalogue: Iterable[Entry], *, checks: Collection[str] | None = None, gpu: bool = True
) -> Callable[[Test], Test]:
    """Run a test once for each trial of a catalogue, which it takes as its argument `case`.

    A trial is one check of one case in one dtype, with an id such as `Affine-wide-float64-gradient`. The checks are
    value, input_gradient and parameter_gradient, against the reference, in each dtype; gradient, complex_step,
    contracts and low_precision, against the subject's own forward; for an optimizer trajectory. Those on a GPU are
    marked `nnfs_gpu`. What an entry is exempted from is expected to fail, and fails the test if it does not.

    Example:
        >>> CATALOGUE = [Spec(MyGELU, (Case("image", ((2, 3, 4, 5),)),), lambda gelu, parameters, x: F.gelu(x))]
        >>> @pyramid(CATALOGUE)
        ... def test_my_layers(gradcheck, case):
        ...     gradcheck(case)

    Args:
        catalogue: at least one entry.
        checks: some of the above; all of them by default.
        gpu: whether there are trials on a GPU too.

    Raises:
        ArgumentError: the catalogue is empty, holds something else or two entries of one name; a check is unknown, or
            the checks leave no trial; an exemption is for nothing that there is.
    """
    import pytest

    def marks(trial: Trial) -> list[pytest.MarkDecorator]:
        found = [pytest.mark.nnfs_gpu] if trial.device != "cpu" else []
        if trial.exemption is not None:
            found.append(pytest.mark.xfail(strict=True, reason=f"exempted: {trial.exemption.reason}"))
        return found

    trials = trials_of(catalogue, checks=checks, gpu=gpu)
    return pytest.mark.parametrize("case", [pytest.param(trial, id=trial.name, marks=marks(trial)) for trial in trials])


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)


def _text_of(value: Any) -> str:
    if _is_shape(value):
        return "x".join(map(str, value)) or "scalar"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        shape = "x".join(map(str, value.shape)) or "scalar"
        return f"{shape}_{str(value.dtype).removeprefix('torch.')}"
    return str(value)
