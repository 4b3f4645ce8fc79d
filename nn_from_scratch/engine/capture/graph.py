"""A computation on CUDA as a graph of kernels, which one launch runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nn_from_scratch.errors import CaptureError

Program = Callable[..., Tensor]


def capture_graph(computation: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Program:
    """The graph of what a computation does with inputs of these shapes; nothing is computed meanwhile.

    Args:
        computation: of tensors like the inputs; it must have run before, so that libraries have chosen their kernels.
        inputs: of which copies are kept, where the graph looks for those of each run.

    Returns:
        A function of new inputs that runs the graph and gives the result, a new tensor.

    Raises:
        CaptureError: the computation looks at the value of a tensor, or does what no graph can hold.
    """
    held = [x.clone() for x in inputs]
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.no_grad(), torch.cuda.graph(graph):
            result = computation(*held)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise CaptureError(
            f"the step cannot be captured into a CUDA graph ({reason}); leave it uncaptured (capture=False)"
        ) from error

    def run(*new: Tensor) -> Tensor:
        with torch.no_grad():
            for place, x in zip(held, new, strict=True):
                place.copy_(x, non_blocking=True)
            graph.replay()
            return result.clone()

    return run


def warmed_up(computation: Callable[[], Tensor]) -> Tensor:
    """Run on a stream of its own, as a graph is captured: what libraries set up for that is then there."""
    current = torch.cuda.current_stream()
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it so
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        result = computation()
    current.wait_stream(aside)
    result.record_stream(current)
    return result
