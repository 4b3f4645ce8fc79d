"""Modules: a forward and a backward without the autograd engine.

Calling a module keeps a record of its input and marks the output with the module and the record's index; `backward`
follows these marks from an output to the leaves. All of that bookkeeping is here and in `graph.py`, so that the author
of a layer writes mathematics only: `forward`, `input_vjp` and, with parameters, `parameter_vjps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from inspect import Parameter, signature
from itertools import repeat
from math import inf
from operator import is_
from typing import Any, ClassVar, cast, overload

import torch
from torch import Tensor

from nn_from_scratch.engine.graph import (
    Record,
    Saving,
    creator_of,
    forget_consumers,
    input_index_of,
    link,
    propagate,
    recording,
    register_consumer,
    releasing,
)
from nn_from_scratch.engine.parameters import ModuleTree
from nn_from_scratch.errors import (
    AmbiguousRecordError,
    ArgumentError,
    DtypeError,
    MissingRecordError,
    OptionTypeError,
    RecordError,
)

Gradients = Tensor | tuple[Tensor | None, ...] | None


@cache
def _input_counts(forward: Callable[..., object]) -> tuple[int, float]:
    """How many inputs an unbound forward takes, at least and at most."""
    parameters = list(signature(forward).parameters.values())[1:]
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return 1, inf
    return sum(parameter.default is Parameter.empty for parameter in parameters), len(parameters)


class Module(ModuleTree):
    """Anything with a forward and a backward; subclass `Layer` or `Container`, not this.

    Attributes:
        needs_inputs: whether the derivative looks at the entries of the inputs, and not at their shapes alone.
    """

    needs_inputs: ClassVar[bool] = True

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}
        self._next_index = 0

    # ---- forward

    def _no_forward(self, *inputs: Tensor) -> Tensor | Saving:
        raise TypeError(f"{type(self).__name__} defines no forward; write one that returns the output tensor")

    # The value as a function of the inputs alone. Declared as an attribute, so that a layer may name its inputs.
    forward: Callable[..., Tensor | Saving] = _no_forward

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Compute the output, keep a record of the inputs, and set `y.creator` and `y.input_index`.

        Raises:
            ArgumentError: there are too few or too many inputs.
            ShapeError, DtypeError, DeviceError: an input does not fit this module.
        """
        least, most = _input_counts(type(self).forward)
        if not least <= len(inputs) <= most:
            expected = f"{least} input" if least == 1 else f"{least} inputs"
            raise ArgumentError(f"{self.short_name()} takes {expected}, not {len(inputs)}")
        for place, x in enumerate(inputs):
            if not isinstance(x, Tensor):
                raise DtypeError(
                    f"input {place} of {self.short_name()} is a {type(x).__name__}, but a torch.Tensor is expected"
                )
        self.check_inputs(*inputs)
        if not torch.is_grad_enabled():  # as for a module inside another one
            return self._run(inputs)
        with torch.no_grad():
            return self._run(inputs)

    def _run(self, inputs: tuple[Tensor, ...]) -> Tensor:
        result = self.forward(*inputs)
        y, saved = result if isinstance(result, Saving) else (result, ())
        inner = y if isinstance(self, Container) else None
        # A new object always: marking an input, or what a module inside gave, would overwrite its creator.
        if inner is not None or any(map(is_, inputs, repeat(y))):
            y = y.detach()
        # Saved under another object than the output, whose creator would keep the record alive through itself.
        if saved:
            saved = tuple([tensor.detach() if tensor is y else tensor for tensor in saved])
        if recording():
            keep = self.needs_inputs or not releasing()
            record = Record(inputs, y, saved=saved, parameters=self.own_parameters(), inner=inner, keep_inputs=keep)
            index = self._next_index
            self._next_index += 1
            self._records[index] = record
            link(y, self, index)
            for x in inputs if inner is None else (*inputs, inner):
                register_consumer(x, self, index)
        return y

    def _check_nothing(self, *inputs: Tensor) -> None:
        """A container leaves the checks to the modules inside."""

    # Called with the inputs before forward; raises a typed error if they do not fit.
    check_inputs: Callable[..., None] = _check_nothing

    # ---- records

    @property
    def xs(self) -> dict[int, Tensor | tuple[Tensor, ...]]:
        """The inputs of the pending records by input index, oldest first; a tuple where there are several.

        An index is never used again, so a stale one cannot meet another record by chance.
        """
        return {i: r.inputs[0] if len(r.inputs) == 1 else r.inputs for i, r in self._records.items()}

    @property
    def pending(self) -> int:
        """How many records there are."""
        return len(self._records)

    def record_at(self, index: int) -> Record:
        """The pending record with this index.

        Raises:
            MissingRecordError: it was cleared or released, or there never was one.
        """
        record = self._records.get(index)
        if record is None or record.released:
            known = ", ".join(map(str, self._records)) or "none"
            how = "cleared by zero_grad or clear_saved_tensors" if record is None else "released by a backward pass"
            raise MissingRecordError(
                f"input_index {index} of {self.short_name()} has no record (pending: {known}): it was {how}; "
                "run the forward pass again, or detach the tensor that carries it"
            )
        return record

    def drop_record(self, index: int) -> Record | None:
        """Forget one record, if it is pending, and return it."""
        return self._records.pop(index, None)

    def clear_saved_tensors(self) -> None:
        """Forget all records here and inside, and every record elsewhere that was computed from them."""
        dropped: list[Record] = []
        for module in self.all_modules():
            if isinstance(module, Module):
                dropped.extend(module._records.values())
                module._records.clear()
        forget_consumers(dropped)

    # ---- backward

    def backward(self, gradwrtoutput: Tensor) -> Gradients:
        """Propagate a cotangent from an output of this module down to the leaves.

        Adds to the `grad` of every parameter on the way. Nothing is consumed: calling it again adds again.

        Args:
            gradwrtoutput: gradient of the loss with respect to the output, of its shape, dtype and device. Its
                attribute `input_index` says which forward pass is meant; it may be absent where one is pending.

        Returns:
            The gradient with respect to this module's input, of its shape; a tuple where there are several inputs.

        Raises:
            AmbiguousRecordError: no `input_index`, and several records are pending.
            MissingRecordError: the record was cleared, or no forward pass was made.
            ModifiedTensorError: a tensor that the gradient depends on was modified since.
            ShapeError, DtypeError, DeviceError: the cotangent does not fit the output.
        """
        if not isinstance(gradwrtoutput, Tensor):
            raise DtypeError(f"gradwrtoutput is a {type(gradwrtoutput).__name__}, but a torch.Tensor is expected")
        index = input_index_of(gradwrtoutput)
        return self.backward_at(self._only_index() if index is None else index, gradwrtoutput)

    def backward_at(self, index: int, gradwrtoutput: Tensor) -> Gradients:
        """`backward` for the record with this index, whatever the cotangent carries."""
        record = self.record_at(index)
        inputs = record.inputs
        found = propagate([(self, record, gradwrtoutput)], wanted=inputs)
        # The caller owns what is returned: writing to it must change neither the cotangent nor another gradient.
        taken = {gradwrtoutput.untyped_storage().data_ptr()}
        gradients: list[Tensor | None] = []
        for x in inputs:
            gradient = found.get(id(x))
            if gradient is not None:
                if gradient.untyped_storage().data_ptr() in taken:
                    gradient = gradient.clone()
                taken.add(gradient.untyped_storage().data_ptr())
            gradients.append(gradient)
        return gradients[0] if len(gradients) == 1 else tuple(gradients)

    def _only_index(self) -> int:
        if len(self._records) == 1:
            return next(iter(self._records))
        if not self._records:
            raise MissingRecordError(
                f"{self.short_name()} has no pending record: run a forward pass before backward (zero_grad and "
                "clear_saved_tensors forget the earlier ones)"
            )
        raise AmbiguousRecordError(
            f"gradwrtoutput of {self.short_name()} has no input_index, and {len(self._records)} records are pending "
            f"({', '.join(map(str, self._records))}); set gradwrtoutput.input_index = y.input_index"
        )

    def local_backward(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        """One step of the traversal: add to the parameters' `grad`, return the cotangents of `record.sources`."""
        raise TypeError(f"{type(self).__name__} derives from Module directly; derive it from Layer or Container")

    # ---- appearance and copies

    def short_name(self) -> str:
        """One line for messages."""
        first, *rest = repr(self).splitlines()
        return f"{first} ...)" if rest else first

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle is of the module, not of the forward passes that it happens to remember.
        return {**vars(self), "_records": {}}


class Container(Module):
    """A module whose forward calls other modules; its backward is theirs.

    The modules inside are found in its attributes: modules themselves, and lists or tuples of modules.
    """

    needs_inputs = False

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield f"{prefix}{name}", value
            elif isinstance(value, list | tuple):
                for place, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{prefix}{name}.{place}", item

    def modules(self) -> tuple[Module, ...]:
        return tuple(module for _, module in self.named_modules())

    def local_backward(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        return (g,)


class Sequential(Container):
    """Modules one after another: the output of each is the input of the next.

    Input and output have the shapes of the first and of the last module. Without modules it is the identity.
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for place, module in enumerate(modules):
            if not isinstance(module, Module):
                raise ArgumentError(f"argument {place} of Sequential is {module!r}, but a Module is expected")
        self._sequence = modules

    def forward(self, x: Tensor) -> Tensor:
        """The output of the last module, each having been called in turn (report, listing 1)."""
        for module in self._sequence:
            x = module(x)
        return x

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        for place, module in enumerate(self._sequence):
            yield f"{prefix}{place}", module

    def __len__(self) -> int:
        return len(self._sequence)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._sequence)

    @overload
    def __getitem__(self, place: int) -> Module: ...
    @overload
    def __getitem__(self, place: slice) -> Sequential: ...
    def __getitem__(self, place: int | slice) -> Module | Sequential:
        if not isinstance(place, int | slice):
            raise OptionTypeError(f"a place in a Sequential is {place!r}, but an integer or a slice is expected")
        return Sequential(*self._sequence[place]) if isinstance(place, slice) else self._sequence[place]

    def __repr__(self) -> str:
        inside = ",\n".join(repr(module) for module in self._sequence)
        return f"Sequential({inside.replace(chr(10), chr(10) + '  ')})"


def backward(y: Tensor, cotangent: Tensor | None = None) -> Gradients:
    """Propagate from the tensor `y` that a module gave.

    Args:
        y: an output of a module, any shape.
        cotangent: gradient of the loss with respect to `y`, of its shape; ones by default.

    Returns:
        The gradient with respect to the input of the module that made `y`.

    Raises:
        RecordError: `y` was not made by a module, or its record was cleared.
        ShapeError, DtypeError, DeviceError: the cotangent does not fit `y`.
    """
    if not isinstance(y, Tensor):
        raise DtypeError(f"y is a {type(y).__name__}, but the torch.Tensor that a module returned is expected")
    origin = creator_of(y)
    if origin is None:
        raise RecordError(
            "y has no creator: backward starts from what a module returned outside no_records(), "
            "not from an input or from the result of a tensor operation on it"
        )
    creator, index = origin
    return cast(Module, creator).backward_at(index, torch.ones_like(y) if cotangent is None else cotangent)
