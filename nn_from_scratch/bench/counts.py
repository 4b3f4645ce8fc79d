"""Exact costs of a step: operators, kernel launches, peak memory.

A count is the same in every run, on a busy machine too, so a gate on it never cries wolf and sees the first needless
copy.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

# What puts work on a GPU, in the words of CUDA's two interfaces; a replayed graph is one launch.
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchCooperativeKernel", "cuLaunchKernel", "cudaGraphLaunch")


@dataclass(frozen=True)
class Counts:
    """The exact costs of one call.

    Attributes:
        operators: of torch that are called, without those that they call themselves; None where they were not counted.
        launches: of kernels or graphs on the GPU; None without one.
        peak_bytes: of tensors, at the worst moment, beyond what lives through the whole call. On a CPU all that
            torch's allocator gives out, temporaries inside an operator included; scratch memory of the vendor's
            library is not seen. On CUDA what its caching allocator has given out.
    """

    operators: int | None
    launches: int | None
    peak_bytes: int


def count(function: Callable[[], object], *, warm_up: int = 3, operators: bool = True) -> Counts:
    """Count what a call costs once it has settled.

    Args:
        function: called without arguments, several times.
        warm_up: calls before anything is counted, in which state and workspaces are made.
        operators: whether these are counted; what was compiled would be compiled again for it.
    """
    for _ in range(warm_up):
        function()
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch's
    return Counts(
        operators=_operators(function) if operators else None,
        launches=_launches(function) if cuda else None,
        peak_bytes=_peak_on_cuda(function) if cuda else _peak_on_cpu(function),
    )


def _operators(function: Callable[[], object]) -> int:
    with _quiet(), profile(activities=[ProfilerActivity.CPU]) as found:
        function()

    def is_part(event: Any) -> bool:
        parent = event.cpu_parent
        return parent is not None and (parent.name.startswith("aten::") or is_part(parent))

    return sum(event.name.startswith("aten::") and not is_part(event) for event in found.events())


def _launches(function: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    with _quiet(), profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        function()
        torch.cuda.synchronize()
    return sum(event.name.startswith(_LAUNCHES) for event in found.events())


def _peak_on_cuda(function: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    function()
    torch.cuda.synchronize()
    least = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - least


def _peak_on_cpu(function: Callable[[], object]) -> int:
    # Two calls in one session: what the first keeps the second frees, so both the least and the most are seen.
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        function()
        function()
    session = found.profiler
    assert session is not None and session.kineto_results is not None
    events = [event for event in session.kineto_results.events() if event.name() == "[memory]"]
    used = least = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        used += event.nbytes()
        least, most = min(least, used), max(most, used)
    return most - least


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager that discards what is written to standard error below Python, as the profiler's notes are."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
