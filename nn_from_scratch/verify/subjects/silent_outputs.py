"""Outputs that are meant to carry no gradient, told from those that lost it.

An output that does not require grad beside one that does was either marked so by its `torch.autograd.Function`, or is a
statistic of torch's own (mean and deviation of `native_layer_norm`), or was detached on the way. The first two are
declared by whoever wrote the operator; the third is a fault that nobody sees, unless it is declared too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode


class _MixedResults(TorchFunctionMode):
    """Notes the results without a gradient of each function of torch that has results with one beside them."""

    def __init__(self, noted: list[Tensor]) -> None:
        super().__init__()
        self._noted = noted

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, tuple | list):
            tensors = [entry for entry in result if isinstance(entry, Tensor)]
            if any(tensor.requires_grad for tensor in tensors):
                self._noted += [tensor for tensor in tensors if not tensor.requires_grad]
        return result


@contextmanager
def silent_results() -> Iterator[list[Tensor]]:
    """Context manager that collects the tensors which are declared to carry no gradient while it is open."""
    noted: list[Tensor] = []
    mark = FunctionCtx.mark_non_differentiable

    def marked(context: FunctionCtx, *tensors: Tensor) -> None:
        noted.extend(tensors)
        mark(context, *tensors)

    FunctionCtx.mark_non_differentiable = marked  # type: ignore[method-assign,assignment]  # as long as one forward takes
    try:
        with _MixedResults(noted):
            yield noted
    finally:
        FunctionCtx.mark_non_differentiable = mark  # type: ignore[method-assign]
