"""A list of recorded operators as a program that is run again and again.

Next to what Python did around the operators, the program saves most of what they need themselves:

- views are taken once, of memory that stays where it is, and not in every run;
- results are written into that memory, and not into memory that is asked for each time; what is no longer needed gives
  its place to what comes next, and an elementwise operator writes over what it is the last to read;
- what nothing depends on is left out, and what depends on nothing is computed once.

Numbers are the same to the last bit, for the operators and their order are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.engine.capture.forms import writing_form
from nn_from_scratch.engine.capture.instructions import Instruction, Listing, Program, Register
from nn_from_scratch.engine.capture.interpreted import interpreted_program
from nn_from_scratch.engine.capture.liveness import Liveness
from nn_from_scratch.engine.capture.memory import Arena, Blocks
from nn_from_scratch.engine.capture.recording import Call, storage_of, tensors_in
from nn_from_scratch.engine.capture.results import copies_to_spare
from nn_from_scratch.engine.capture.written import written_program


def compile_program(calls: Sequence[Call], inputs: Sequence[Tensor], result: Tensor) -> Program:
    """The program that does what was recorded.

    Args:
        calls: in their order.
        inputs: tensors that were given to the computation, and will be other ones in each run, of the same shape,
            strides and dtype. All other tensors that the calls did not make are used as they are then.
        result: of the computation, made by one of the calls.

    Returns:
        A function of tensors in the place of `inputs` that gives the result, a new tensor. For one thread at a time.
    """
    return program_of(list_instructions(calls, inputs, result))


def program_of(listing: Listing) -> Program:
    """The program for a listing."""
    return interpreted_program(listing) or written_program(listing)


def list_instructions(
    calls: Sequence[Call], inputs: Sequence[Tensor], result: Tensor, wanted: Sequence[Tensor] = (), spare: Blocks = ()
) -> Listing:
    """What the program does.

    Args:
        calls, inputs, result: as those of `compile_program`.
        wanted: tensors to which the calls copy results, to each entry once, and with which they do nothing else.
        spare: memory that nobody else uses while the program runs.
    """
    return _Compiler(calls, inputs, result, wanted, spare).listing()


#: Operators that ask for memory and compute nothing; it is a place in the program's own.
_ALLOCATIONS = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
}


class _Compiler:
    def __init__(
        self,
        calls: Sequence[Call],
        inputs: Sequence[Tensor],
        result: Tensor,
        wanted: Sequence[Tensor],
        spare: Blocks,
    ) -> None:
        self.live = Liveness(calls, result)
        self.inputs = inputs
        self.result = result
        self.found = Listing([Register(f"input{place}") for place in range(len(inputs))])
        self.over: dict[int, Tensor] = {}  # by place of a call, the argument that its result is written over
        # What stands for each recorded tensor: a register, or a tensor that stays where it is.
        self.now: dict[int, Register | Tensor] = {
            id(x): name for x, name in zip(inputs, self.found.inputs, strict=True)
        }
        self.registers: dict[int, list[Register]] = {}  # by recorded storage
        requests = self._requests()
        where, self.spared = copies_to_spare(self.live, {place: x for place, (x, *_) in requests.items()}, wanted)
        arena = Arena({place: request for place, request in requests.items() if place not in where})
        self.static = where | arena.place(spare)
        self.found.block, self.found.kept_bytes = arena.block, arena.own_bytes

    # ---- what goes where

    def _requests(self) -> dict[int, tuple[Tensor, int, int]]:
        """The results that get a place of their own: by place, the tensor and its life in calls."""
        requests: dict[int, tuple[Tensor, int, int]] = {}  # by place
        roots: dict[int, int] = {}  # by storage, the one that it is written over, at the end of a chain of such
        # What is given another shape in place (`squeeze_`) no longer has the one that it was made with.
        reshaped = {
            storage_of(x)
            for _, call in self.live.calls
            if torch.Tag.inplace_view in call.function.tags
            for x in call.inputs
        }
        for place, call in self.live.calls:
            y = call.result
            if call.is_view or call.written or place in self.live.constant or not isinstance(y, Tensor):
                continue
            key, form = storage_of(y), writing_form(call)
            if self.live.made_at.get(key) != place or not _is_dense(y) or key in reshaped:
                continue
            last = self.live.last_use[key]
            if call.function in _ALLOCATIONS:
                requests[place] = (y, place, last)
            if form is None:
                continue
            x = self._overwritten(call, y, place)
            if x is not None:
                self.over[place] = x
                root = roots[key] = roots.get(storage_of(x), storage_of(x))
                maker = self.live.made_at[root]
                if maker in requests:
                    requests[maker] = (*requests[maker][:2], last)
                self.live.last_use[root] = max(self.live.last_use[root], last)
            elif form.out or form.is_copy:
                requests[place] = (y, place, last)
        return requests

    def _overwritten(self, call: Call, y: Tensor, place: int) -> Tensor | None:
        """The argument that an elementwise operator may write its result over."""
        if torch.Tag.pointwise not in call.function.tags:
            return None
        form = writing_form(call)
        places = call.arguments if form is not None and form.out else call.arguments[:1]
        for x in tensors_in(places):
            key = storage_of(x)
            if (
                self.live.made_at.get(key, place) < place
                and self.live.made_at[key] not in self.live.constant
                and self.live.last_use[key] == place
                and x.shape == y.shape
                and x.stride() == y.stride()
                and x.dtype == y.dtype
                and x.numel() * x.element_size() == x.untyped_storage().nbytes()
                and all(_lie_alike(other, x) for other in call.inputs if storage_of(other) == key)
            ):
                return x
        return None

    # ---- what is done

    def listing(self) -> Listing:
        for place, call in self.live.calls:
            if place not in self.spared:
                self._add(place, call)
            self._free(place)
        self.found.result = self._current(self.result)
        return self.found

    def _add(self, place: int, call: Call) -> None:
        if place in self.live.constant:
            for y in call.outputs:
                self.now[id(y)] = y
            return
        if call.is_view and all(isinstance(self._current(x), Tensor) for x in call.inputs):
            again = call.function(*map(self._operand, call.arguments), **_mapped(self._operand, call.options))
            for old, new in zip(call.outputs, tensors_in(again), strict=True):
                self.now[id(old)] = new
            return
        arguments = list(map(self._operand, call.arguments))
        options = _mapped(self._operand, call.options)
        plain = Instruction(call.function, arguments, options, (call.arguments, call.options, call.result))
        if call.written:
            self.found.instructions.append(plain)
            self._alias_written(call)
            return
        target = self._target(place, call)
        if target is not None and call.function in _ALLOCATIONS:
            self.now[id(call.result)] = target
            return
        if target is not None:
            self.found.instructions.append(_writing(call, plain, target))
            self.now[id(call.result)] = target
            return
        plain.target = Register(f"r{place}")
        self.found.instructions.append(plain)
        if isinstance(call.result, Tensor):
            self._assign(call.result, plain.target)
        else:
            plain.parts = [Register(f"{plain.target}_{part}") for part in range(len(call.outputs))]
            for y, part in zip(call.outputs, plain.parts, strict=True):
                self._assign(y, part)
            self.registers.setdefault(storage_of(call.outputs[0]), []).append(plain.target)

    def _assign(self, y: Tensor, register: Register) -> None:
        self.now[id(y)] = register
        self.registers.setdefault(storage_of(y), []).append(register)

    def _alias_written(self, call: Call) -> None:
        """What an operator in place gave is what it was given."""
        written = {storage_of(x): x for x in call.written}
        for y in call.outputs:
            if id(y) not in self.now and storage_of(y) in written:
                self.now[id(y)] = self._current(written[storage_of(y)])

    def _target(self, place: int, call: Call) -> Register | Tensor | None:
        """Where the result of a call is written: over an argument, or into a place of its own, if either."""
        if place in self.over:
            target = self._current(self.over[place])
            if isinstance(target, Register):
                self.registers.setdefault(storage_of(call.result), []).append(target)
            return target
        return self.static.get(place)

    def _current(self, x: Tensor) -> Register | Tensor:
        return self.now.get(id(x), x)

    def _operand(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._current(value)
        if isinstance(value, list | tuple):
            return type(value)(map(self._operand, value))
        return value

    def _free(self, place: int) -> None:
        """Let go of what is not used after this call: its memory serves the next ones."""
        for key in [key for key in self.registers if self.live.last_use.get(key, -1) == place]:
            names = self.registers.pop(key)
            still = {name for held in self.registers.values() for name in held}
            gone = sorted(set(names) - still)
            if gone:
                last = self.found.instructions[-1]
                last.gone = [*last.gone, *gone]


def _writing(call: Call, plain: Instruction, target: Register | Tensor) -> Instruction:
    """The operator in the form that writes its result where it is told to."""
    form = writing_form(call)
    assert form is not None
    if form.is_copy:
        x, y = call.arguments[0], call.result
        return Instruction(form.function, [target, plain.arguments[0]], {}, ((y, x), {}, y))
    recorded, options = dict(call.options), dict(plain.options)
    if form.out:
        recorded[form.out], options[form.out] = call.result, target
    return Instruction(form.function, plain.arguments, options, (call.arguments, recorded, call.result))


def _mapped(change: Callable[[Any], Any], options: Any) -> dict[str, Any]:
    return {name: change(value) for name, value in options.items()}


def _is_dense(x: Tensor) -> bool:
    """Whether each entry has a place in memory of its own and no place is empty."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.numel() == reach and x.numel() * x.element_size() == x.untyped_storage().nbytes()


def _lie_alike(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors of the same storage are the same entries of it in the same order."""
    return (x.shape, x.stride(), x.dtype, x.storage_offset()) == (y.shape, y.stride(), y.dtype, y.storage_offset())
