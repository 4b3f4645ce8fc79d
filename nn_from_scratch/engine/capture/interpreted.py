"""A program as a graph for TorchScript's interpreter, which runs it without Python.

Between two operators Python takes one to two microseconds, and the lock that threads of one interpreter pass among
themselves takes ten times that, for operators that run twenty. The interpreter of TorchScript has neither. Its
optimizations are left out, so that the operators and their order are those of the listing; which overload it chose for
each is compared with the listing.

torch offers no public way to such a graph. Where its internal one is not there, or the graph cannot say what an
operator is given (a generator, a dtype), the program is one in Python.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.engine.capture.instructions import Instruction, Listing, Program, Register
from nn_from_scratch.engine.capture.waiting import RING, RING_OPERATORS, Bell, as_written

# As c10::MemoryFormat counts them.
_LAYOUTS = {torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2}


class _InexpressibleError(Exception):
    """A graph cannot say this."""


def interpreted_program(listing: Listing, bell: Bell | None = None) -> Program | None:
    """The function of the inputs that carries out the listing and gives a copy of its result, or None if none can.

    After the last operator it rings the bell, if it has one: what it wrote is then there for others to read.
    """
    writer = _Writer()
    try:
        for instruction in listing.instructions:
            writer.write(instruction)
        result = writer.operand(listing.result, "Tensor")
        writer.assign("result : Tensor", f"aten::clone({result}, {writer.operand(None, '')})")
        writer.asked.append("aten::clone")
        if bell is not None:
            writer.ring(bell)
        names = [f"%{name} : Tensor" for name in (*listing.inputs, *writer.tensors.values())]
        text = "\n  ".join([f"graph({', '.join(names)}):", *writer.lines, "return (%result)\n"])
        graph = torch._C.parse_ir(text)
        chosen = [node.schema().partition("(")[0] for node in graph.nodes() if not node.kind().startswith("prim::")]
        _hold(graph, writer.held)
        function: Program = as_written(torch._C._create_function_from_graph("program", graph))
    except (_InexpressibleError, AttributeError, RuntimeError):
        return None
    return function if chosen == writer.asked else None


def _hold(graph: Any, held: Sequence[Tensor]) -> None:
    """Make the graph's last inputs part of it: to hand a hundred tensors over in each run takes ten microseconds."""
    inputs = list(graph.inputs())
    first = len(inputs) - len(held)
    graph.setInsertPoint(next(iter(graph.nodes())))
    for value, tensor in zip(inputs[first:], held, strict=True):
        value.replaceAllUsesWith(graph.insertConstant(tensor))
    for place in reversed(range(first, len(inputs))):
        graph.eraseInput(place)


def _as_tensor(number: float, *, beside: Any) -> Tensor:
    """What torch makes of a number beside a tensor, where that changes no result."""
    if not isinstance(beside, Tensor) or beside.dtype not in (torch.float32, torch.float64):
        raise _InexpressibleError
    return torch.tensor(number, dtype=beside.dtype, device=beside.device)


class _Writer:
    """Writes a graph, line by line.

    Attributes:
        lines: written so far.
        asked: the operators, in their order.
        held: the tensors that stay where they are.
        tensors: their names in the graph, by identity.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.asked: list[str] = []
        self.held: list[Tensor] = []
        self.tensors: dict[int, str] = {}
        self._constants: dict[tuple[str, str], str] = {}

    def assign(self, name: str, value: str) -> None:
        self.lines.append(f"%{name} = {value}")

    def write(self, instruction: Instruction) -> None:
        i, schema = instruction, instruction.function._schema
        given = dict(zip((a.name for a in schema.arguments), i.arguments, strict=False)) | dict(i.options)
        operands = []
        for a in schema.arguments:
            value = given.get(a.name, a.default_value)
            if str(a.type) == "Tensor" and isinstance(value, int | float):
                value = _as_tensor(value, beside=i.recorded[0][0])
            operands.append(self.operand(value, str(a.type)))
        call = f"{schema.name}({', '.join(operands)})"
        types = [str(returned.type) for returned in schema.returns]
        if types not in ([], ["Tensor"], ["List[Tensor]"]):
            raise _InexpressibleError
        target = i.target or f"unused{len(self.asked)}"
        if types:
            self.assign(f"{target} : {'Tensor' if types == ['Tensor'] else 'Tensor[]'}", call)
        else:
            self.lines.append(call)
        self.asked.append(f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name)
        if i.parts:
            self.lines.append(f"{', '.join(f'%{part} : Tensor' for part in i.parts)} = prim::ListUnpack(%{target})")

    def ring(self, bell: Bell) -> None:
        self.tensors[id(bell.rung)] = "rung"
        self.held.append(bell.rung)
        self.lines += RING
        self.asked += RING_OPERATORS

    def operand(self, value: Any, kind: str) -> str:
        if isinstance(value, Register):
            return f"%{value}"
        if isinstance(value, Tensor):
            if id(value) not in self.tensors:
                self.tensors[id(value)] = f"held{len(self.held)}"
                self.held.append(value)
            return f"%{self.tensors[id(value)]}"
        if isinstance(value, list | tuple):
            return self._list(value, kind)
        return self._constant(value, kind)

    def _list(self, values: Sequence[Any], kind: str) -> str:
        entry = next((name for name in ("Tensor", "int", "float", "bool") if f"List[{name}]" in kind), None)
        if entry is None or any(value is None for value in values):
            raise _InexpressibleError
        name = f"list{len(self.lines)}"
        operands = [self.operand(value, entry) for value in values]
        self.assign(f"{name} : {entry}[]", f"prim::ListConstruct({', '.join(operands)})")
        return f"%{name}"

    def _constant(self, value: Any, kind: str) -> str:
        if value is None:
            typed, text = "NoneType", ""
        elif isinstance(value, bool):
            typed, text = "bool", f"[value={int(value)}]"
        elif isinstance(value, torch.memory_format) and value in _LAYOUTS:
            typed, text = "int", f"[value={_LAYOUTS[value]}]"
        elif isinstance(value, float) or (isinstance(value, int) and kind == "float"):
            if not math.isfinite(value):
                raise _InexpressibleError
            typed, text = "float", f"[value={float(value)!r}]"
        elif isinstance(value, int):
            typed, text = "int", f"[value={value}]"
        elif isinstance(value, str) and value.isidentifier():
            typed, text = "str", f"[value={json.dumps(value)}]"
        else:
            raise _InexpressibleError
        name = self._constants.get((typed, text))
        if name is None:
            name = self._constants[typed, text] = f"constant{len(self._constants)}"
            self.assign(f"{name} : {typed}", f"prim::Constant{text}()")
        return f"%{name}"
