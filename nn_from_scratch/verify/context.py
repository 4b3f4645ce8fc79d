"""What a check is told besides its subject: seed, level, tolerance factor, options, deadline."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from nn_from_scratch.verify import constants

Level = Literal["quick", "full"]


class TimeLimitReached(BaseException):
    """The time limit of one check was reached; `check` turns it into an undecided result.

    Not an `Exception`, so that neither a subject nor an adapter swallows it.
    """


def stable_seed(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on the seed of the verification and the names alone, the same in every process."""
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


@dataclass
class Budget:
    """CPU seconds of the current thread that a piece of work may take in all, over several goes.

    CPU time, so that what is found does not depend on what else the machine does.

    Attributes:
        seconds: How much there is.
        stopped: Whether work was left undone for it; whoever leaves some says so here.
    """

    seconds: float = math.inf
    stopped: bool = False
    _used: float = 0.0
    _since: float | None = None

    @property
    def spent(self) -> float:
        """Seconds that were taken so far."""
        return self._used + (0.0 if self._since is None else time.thread_time() - self._since)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - self.spent

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Context manager whose body counts."""
        self._since = time.thread_time()
        try:
            yield
        finally:
            self._used += time.thread_time() - self._since
            self._since = None


@dataclass(frozen=True, kw_only=True)
class CheckContext:
    """The circumstances of one check.

    Every draw is seeded from the seed and names, so that a further tensor changes no other tensor's result.

    Attributes:
        level: "quick" or "full" (more directions, complex step, whole numerical gradients).
        factor: A difference counts as wrong above this many error estimates.
        options: Options of single checks, by name.
        deadline: When the check must be over, on `time.monotonic`; None for never.
        random: The subject draws random numbers, the same ones in every forward.
        naming: What the search for the names of all faults that a check finds may take.
        measured: What rounding the inputs was found to do to a subject: the same for all checks of one verification,
            as the seed is.
    """

    seed: int = 0
    level: Level = "quick"
    factor: float = constants.FACTOR
    options: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    random: bool = False
    naming: Budget = field(default_factory=Budget)
    measured: WeakKeyDictionary[object, Mapping[str, float]] = field(
        default_factory=WeakKeyDictionary, repr=False, compare=False
    )

    def generator(self, *names: object) -> torch.Generator:
        """A CPU generator seeded from the seed and the names."""
        return torch.Generator().manual_seed(stable_seed(self.seed, *names))

    def signed(
        self, shape: Sequence[int], *names: object, dtype: torch.dtype = torch.float64, device: Any = "cpu"
    ) -> Tensor:
        """Draw dense signed numbers, of magnitude in [0.5, 1.5): no entry escapes.

        Args:
            names: What the draw is for; it determines the values together with the seed.
            dtype: The dtype of the result (drawn in float64 whatever it is); real or complex.
        """
        parts = (2,) if dtype.is_complex else ()
        r = (
            torch.rand((*shape, *parts), generator=self.generator(*names), dtype=torch.float64, device="cpu")
            .mul_(2)
            .sub_(1)
        )
        r.add_(r.sign(), alpha=constants.SMALLEST_DRAW)
        drawn = torch.view_as_complex(r) if dtype.is_complex else r
        return drawn.to(device=device, dtype=dtype)

    def cotangents(self, outputs: Mapping[str, Tensor], *names: object) -> dict[str, Tensor]:
        """Draw a signed cotangent for each output but integers and masks, of its shape, dtype and device."""
        return {
            name: self.signed(y.shape, "cotangent", name, *names, dtype=y.dtype, device=y.device)
            for name, y in outputs.items()
            if y.is_floating_point() or y.is_complex()
        }

    def option(self, name: str, default: Any) -> Any:
        """The option of that name, or the default."""
        return self.options.get(name, default)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()

    def require_time(self) -> None:
        """Raise `TimeLimitReached` once the deadline has passed; long loops call it every round."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeLimitReached("the time limit of this check was reached")
