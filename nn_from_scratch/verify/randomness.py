"""Random numbers that a subject draws: where they come from, and the same ones before every call."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nn_from_scratch.verify import constants
from nn_from_scratch.verify.subjects.structure import leaves


@dataclass(frozen=True, kw_only=True)
class RandomSource:
    """A generator of random numbers.

    Attributes:
        name: What reports call it.
        state: Gives its state, to be put back.
        put_back: Takes such a state.
        start: Puts it into the state that belongs to a seed.
        mark: What of a state changes with every draw.
    """

    name: str
    state: Callable[[], Any]
    put_back: Callable[[Any], object]
    start: Callable[[int], object]
    mark: Callable[[Any], Any]

    def moved_since(self, state: Any) -> bool:
        """Whether numbers were drawn since it was in that state."""
        return bool(self.mark(self.state()) != self.mark(state))


class RandomStates:
    """The states that some sources were in, to which they return."""

    def __init__(self, sources: Sequence[RandomSource]) -> None:
        self._held = [(source, source.state()) for source in sources]

    def drawn(self) -> list[RandomSource]:
        """The sources that numbers were drawn from in the meantime."""
        return [source for source, state in self._held if source.moved_since(state)]

    def close(self) -> None:
        """Put the states back."""
        for source, state in self._held:
            if source.moved_since(state):
                source.put_back(state)


def random_sources(subject: object, inputs: object) -> list[RandomSource]:
    """The generators of torch, NumPy and Python that code draws from unasked, and those that these objects hold.

    NumPy's, whose state takes a tenth of a millisecond to read, is left out where no array is handed over and the
    subject is defined in a module that has not imported NumPy.
    """
    known = [_of_torch("torch's generator", torch.default_generator), _of_python("Python's random", random)]
    given, parts = [leaf for _, leaf in leaves(inputs, "")], [part for _, part in leaves(subject, "")]
    if any(isinstance(leaf, np.ndarray) for leaf in given) or any(_beside_numpy(part) for part in parts):
        known.append(
            RandomSource(
                name="NumPy's global generator",
                state=np.random.get_state,
                put_back=np.random.set_state,
                start=lambda seed: np.random.seed(seed % constants.NUMPY_SEEDS),
                mark=lambda state: (state[1][0], *state[2:]),
            )
        )
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        known += [_of_torch(f"the generator of {g.device}", g) for g in torch.cuda.default_generators]
    found: dict[int, object] = {id(each): each for each in _generators([*parts, *given])}
    for place, each in enumerate(found.values()):
        name = f"the {type(each).__name__} that it was given" + (f" ({place})" if len(found) > 1 else "")
        if isinstance(each, torch.Generator):
            known.append(_of_torch(name, each))
        elif isinstance(each, np.random.Generator):
            known.append(_of_numpy(name, each.bit_generator))
        elif isinstance(each, random.Random):
            known.append(_of_python(name, each))
    return known


def _generators(holders: Sequence[object]) -> Iterator[object]:
    """Generators among some objects, their attributes, and the defaults, closures and globals of their functions."""
    for holder in holders:
        for each in (holder, *getattr(holder, "__dict__", {}).values(), *_reached(holder)):
            if isinstance(each, torch.Generator | np.random.Generator | random.Random):
                yield each


def _reached(holder: object) -> Iterator[object]:
    for function in (holder, getattr(holder, "forward", None), inspect.getattr_static(type(holder), "__call__", None)):
        plain: Any = getattr(function, "__func__", function)
        code = getattr(plain, "__code__", None)
        if code is not None:
            yield from plain.__defaults__ or ()
            yield from (plain.__kwdefaults__ or {}).values()
            yield from (plain.__globals__.get(name) for name in code.co_names)
            for cell in plain.__closure__ or ():
                with suppress(ValueError):  # it is still empty
                    yield cell.cell_contents


def _beside_numpy(thing: object) -> bool:
    """Whether a function, or the class of an object, is defined in a module that has imported NumPy."""
    name = str(getattr(thing, "__module__", None))  # an object has that of its class
    module = sys.modules.get(name)
    # PyTorch draws from its own generators; its modules are large, and would take longer to look through than a check.
    return module is not None and not name.startswith("torch") and id(np) in map(id, tuple(vars(module).values()))


def _of_torch(name: str, generator: torch.Generator) -> RandomSource:
    return RandomSource(
        name=name,
        state=generator.get_state,
        put_back=generator.set_state,
        start=generator.manual_seed,
        mark=lambda state: state.numpy().tobytes(),
    )


def _of_python(name: str, generator: Any) -> RandomSource:
    """The module `random` or one of its generators; of the words of a state the first and the place change."""
    return RandomSource(
        name=name,
        state=generator.getstate,
        put_back=generator.setstate,
        start=generator.seed,
        mark=lambda state: (state[1][0], state[1][-1], state[2]),
    )


def _of_numpy(name: str, bits: np.random.BitGenerator) -> RandomSource:
    kind: Any = type(bits)

    def put_back(state: Any) -> None:
        bits.state = state

    return RandomSource(
        name=name, state=lambda: bits.state, put_back=put_back, start=lambda seed: put_back(kind(seed).state), mark=repr
    )
