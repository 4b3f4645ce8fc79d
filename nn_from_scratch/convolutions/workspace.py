"""Memory that is used again from call to call, for what does not outlive one.

Freshly mapped pages cost more than what is computed in them: the kernel zeroes each when it is first touched.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

#: Bytes that a thread keeps for one purpose, at most; what is larger is allocated and given back each time.
KEPT_BYTES = 4 << 20

# The same goes for what does outlive a call. The C library of Linux returns freed memory to the system as soon as it is
# more than twice the largest mapped block that was ever freed, and so each training step would map the same pages
# again. To free a block just below its limit of 32 MiB, never touched and so never really there, raises that mark.
torch.empty(31 << 20, dtype=torch.uint8, device="cpu")


class _Kept(threading.local):
    """Each thread's own buffers, by purpose and dtype."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, torch.dtype], Tensor] = {}


_kept = _Kept()
_sharing: ContextVar[bool] = ContextVar("sharing", default=True)


@contextmanager
def unshared_workspaces() -> Iterator[None]:
    """Within it, every workspace is new memory: for what is recorded now and run in another thread later."""
    token = _sharing.set(False)
    try:
        yield
    finally:
        _sharing.reset(token)


def workspace(purpose: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A contiguous tensor of this shape, with the dtype and device of `like` and any values.

    Until the same thread asks again for the same purpose it is the caller's alone; it must not be handed out.
    """
    size = torch.Size(shape).numel()
    if like.device.type != "cpu" or size * like.element_size() > KEPT_BYTES or not _sharing.get():
        return like.new_empty(shape)  # torch has a cache of its own for other devices
    buffers = _kept.buffers
    buffer = buffers.get((purpose, like.dtype))
    if buffer is None or len(buffer) < size:
        with torch.inference_mode(mode=False):  # a tensor made under it could not be written to later
            buffer = buffers[purpose, like.dtype] = torch.empty(size, dtype=like.dtype, device=like.device)
    return buffer[:size].view(shape)
