"""The base of every layer: what its author writes, and the checks that all layers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from nn_from_scratch.engine.graph import Record
from nn_from_scratch.engine.module import Module
from nn_from_scratch.errors import DeviceError, DtypeError, ShapeError

#: The dtypes that layers compute in; torch has none of the operations for those of eight bits, or of half a complex.
_REAL = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})
_COMPLEX = frozenset({torch.complex128, torch.complex64})


class Layer(Module):
    """A module with no modules inside: a forward and its local derivative.

    Attributes:
        complex_inputs: whether the value is defined for complex inputs too; not where it compares numbers.
        needs_inputs: whether the derivative looks at the entries of the inputs, and not at their shapes alone: a
            training step need not keep what is in them otherwise.
    """

    complex_inputs: ClassVar[bool] = True

    def input_vjp(self, g: Tensor, record: Record) -> Tensor | tuple[Tensor | None, ...]:
        """The cotangent of the output times the Jacobian with respect to the input.

        Args:
            g: cotangent, of the output's shape and dtype; must not be modified.
            record: the forward pass, with `x` (or `inputs`) and what `forward` saved.

        Returns:
            A tensor of the input's shape; a tuple of them where there are several inputs, in which a place may be
            None if `record.needs` says that nobody asks for it.
        """
        raise TypeError(f"{type(self).__name__} defines no input_vjp; write one that returns the input's gradient")

    def parameter_vjps(self, g: Tensor, record: Record) -> dict[str, Tensor]:
        """The cotangent times the Jacobian with respect to each parameter, by name; new tensors, never `g` itself."""
        raise TypeError(
            f"{type(self).__name__} has parameters {self.parameter_names} but defines no parameter_vjps; "
            "write one that returns their gradients by name"
        )

    def local_backward(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        if record.parameters:
            memory = g.untyped_storage().data_ptr()
            for name, gradient in self.parameter_vjps(g, record).items():
                if gradient.untyped_storage().data_ptr() == memory:
                    gradient = gradient.clone()  # the parameter keeps it, and the cotangent is the caller's
                parameter = record.parameters[name]
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        if not any(record.needs):
            return (None,) * len(record.inputs)
        gradients = self.input_vjp(g, record)
        return gradients if isinstance(gradients, tuple) else (gradients,)

    def _reference(self, x: Tensor) -> Tensor:
        """The tensor whose dtype and device the inputs must have: a parameter or a buffer, else the first input x."""
        for name in self.parameter_names:
            parameter: Tensor | None = getattr(self, name)
            if parameter is not None:
                return parameter
        floating = (tensor for tensor in self.own_buffers().values() if tensor.is_floating_point())
        return next(floating, x)

    def _check_kind(self, *inputs: Tensor) -> None:
        reference = self._reference(inputs[0])
        for place, x in enumerate(inputs):
            dense = x.layout is torch.strided and not x.is_nested
            if dense and x.dtype == reference.dtype and x.device == reference.device and x.dtype in _REAL:
                continue  # as almost always; which demand is not met, if not, is found out below
            if not dense:
                raise DtypeError(
                    f"input {place} of {self.short_name()} is a sparse, nested or opaque tensor, but a dense one is "
                    "expected; convert it with to_dense() or pad it"
                )
            if not (x.is_floating_point() or x.is_complex()):
                raise DtypeError(
                    f"input {place} of {self.short_name()} has dtype {x.dtype}, which has no gradient; "
                    "convert it to a floating-point dtype"
                )
            if x.dtype not in _REAL and x.dtype not in _COMPLEX:
                raise DtypeError(
                    f"input {place} of {self.short_name()} has dtype {x.dtype}, in which torch computes too little; "
                    "convert it to float32, say"
                )
            if x.is_complex() and not self.complex_inputs:
                raise DtypeError(
                    f"input {place} of {self.short_name()} has dtype {x.dtype}, but only real numbers can be compared"
                )
            if x.dtype != reference.dtype:
                raise DtypeError(
                    f"input {place} of {self.short_name()} has dtype {x.dtype}, but {reference.dtype} is expected here"
                )
            if x.device != reference.device:
                raise DeviceError(
                    f"input {place} of {self.short_name()} lies on {x.device}, but {reference.device} is expected here"
                )

    # A layer with demands of its own on shapes extends this.
    check_inputs: Callable[..., None] = _check_kind

    def describe(self, *positional: object, **options: tuple[object, object]) -> str:
        """`Name(positional, option=value)` with the options, given as (value, default), that are not the default."""
        named = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
        return f"{type(self).__name__}({', '.join([*map(repr, positional), *named])})"


def expect_dimensions(x: Tensor, module: Module, axes: str) -> None:
    """Refuse an input whose number of dimensions is not that of `axes`, such as "N C H W".

    Raises:
        ShapeError: the number of dimensions differs.
    """
    expected = axes.count(" ") + 1
    if x.dim() != expected:
        raise ShapeError(
            f"input of {module.short_name()} has shape {tuple(x.shape)} with {x.dim()} dimensions, "
            f"but {expected} are expected: ({', '.join(axes.split())})"
        )
