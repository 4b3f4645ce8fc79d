"""What passes leave in the object that they go through."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Passes:
    """What some passes through a layer left behind.

    Attributes:
        before: The tensors that it held after a forward, by path.
        entries: Copies of their entries.
        foreign: What was handed to it; what lies in the memory of these is no parameter.
        returned: The gradients that the backward returned, or the cotangents.
    """

    before: Mapping[tuple[Any, ...], Any]
    entries: Mapping[tuple[Any, ...], Any]
    foreign: Collection[Any]
    returned: Collection[Any]

    def is_foreign(self, value: Any) -> bool:
        """Whether something lies in the memory of what was handed over."""
        return _memory(value) in {_memory(x) for x in self.foreign}

    def is_returned(self, value: Any) -> bool:
        """Whether something is, or equals, a gradient of an input or a cotangent."""
        return any(equal(value, x) for x in self.returned)

    def changed(self, after: Mapping[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], Any]:
        """What the backward made or changed, without what it returned."""
        return {
            path: value
            for path, value in after.items()
            if (self.before.get(path) is not value or not equal(value, self.entries[path]))
            and not self.is_foreign(value)
            and not self.is_returned(value)
        }


def _memory(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.untyped_storage().data_ptr() if value.numel() else id(value)
    while isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray):
        value = value.base
    return int(value.__array_interface__["data"][0]) if isinstance(value, np.ndarray) and value.size else id(value)


def entries_of(value: Any) -> Any:
    """A copy of a tensor or array."""
    return value.detach().clone() if isinstance(value, Tensor) else np.array(value)


def equal(a: Any, b: Any) -> bool:
    """Whether two tensors, or two arrays, are equal entry by entry."""
    if a is b:
        return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all())
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)
