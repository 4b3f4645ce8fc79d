"""A program as a Python function of one line for each operator."""

from __future__ import annotations

from typing import Any

from nn_from_scratch.engine.capture.binding import shortest_way
from nn_from_scratch.engine.capture.instructions import Instruction, Listing, Program, Register


def written_program(listing: Listing) -> Program:
    """The function of the inputs that carries out the listing and gives a copy of its result."""
    writer = _Writer()
    for instruction in listing.instructions:
        writer.write(instruction)
    writer.lines.append(f"return {writer.text(listing.result)}.clone()")
    text = f"def program({', '.join(listing.inputs)}):\n" + "\n".join(f"    {line}" for line in writer.lines)
    namespace = dict(writer.constants)
    exec(compile(text, "<captured>", "exec"), namespace)
    function: Program = namespace["program"]
    return function


class _Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}

    def write(self, instruction: Instruction) -> None:
        i = instruction
        given = [*map(self.text, i.arguments), *(f"{name}={self.text(value)}" for name, value in i.options.items())]
        call = f"{self._constant(shortest_way(i.function, *i.recorded))}({', '.join(given)})"
        self.lines.append(f"{i.target} = {call}" if i.target is not None else call)
        self.lines += [f"{part} = {i.target}[{place}]" for place, part in enumerate(i.parts)]
        if i.gone:  # its memory serves the next ones
            self.lines.append(f"{' = '.join(i.gone)} = None")

    def text(self, operand: Any) -> str:
        if isinstance(operand, Register):
            return operand
        if isinstance(operand, list) and any(isinstance(part, Register) for part in operand):
            return f"[{', '.join(map(self.text, operand))}]"
        return self._constant(operand)

    def _constant(self, value: Any) -> str:
        if value is None or isinstance(value, bool | int) or (isinstance(value, str) and value.isidentifier()):
            return repr(value)
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name
