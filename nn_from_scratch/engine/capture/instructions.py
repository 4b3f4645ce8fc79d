"""What a program consists of: operators with their operands, before anybody decides how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nn_from_scratch.engine.capture.recording import Overload

Program = Callable[..., Tensor]


class Register(str):
    """The name of a variable in the program, which holds a tensor that is another one in each run."""


@dataclass(eq=False)
class Instruction:
    """One operator. An operand is a register, a tensor that stays where it is, a list of such, or a plain value.

    Attributes:
        function: the operator.
        arguments, options: positional and keyword operands.
        recorded: arguments, options and result of a call like this one, as it was recorded.
        target: what holds the result, if anything needs it.
        parts: what holds the tensors of a result that is a list of them.
        gone: what nothing needs after this.
    """

    function: Overload
    arguments: Sequence[Any]
    options: Mapping[str, Any]
    recorded: tuple[Sequence[Any], Mapping[str, Any], Any]
    target: Register | None = None
    parts: Sequence[Register] = ()
    gone: Sequence[Register] = ()


@dataclass(eq=False)
class Listing:
    """A whole program.

    Attributes:
        inputs: what holds them.
        instructions: in their order.
        result: of which the program gives a copy.
        kept_bytes: of the memory that stays its own between runs.
        block: the memory that it uses while it runs, its own or not.
    """

    inputs: Sequence[Register]
    instructions: list[Instruction] = field(default_factory=list)
    result: Register | Tensor | None = None
    kept_bytes: int = 0
    block: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))
