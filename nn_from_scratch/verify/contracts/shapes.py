"""Other batch sizes, and one dimension more, wherever the forward accepts them."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.verify.contracts.baseline import changed_values
from nn_from_scratch.verify.contracts.elsewhere import Elsewhere
from nn_from_scratch.verify.contracts.findings import contract
from nn_from_scratch.verify.protocol import Slot, Subject, starting_values
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["other_shapes"]


@contract("other_shapes")
def other_shapes(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """The gradient is right for one sample, for more samples, and for tensors of one dimension more.

    Finds a missing 1/N that was tested at N = 1, and a layer norm that assumes two dimensions. Only shapes
    that the forward accepts count. One dimension more is tried where PyTorch's engine calls the backward; a
    backward that raises there has refused the shape, which is no fault, and is reported.
    """
    check = "other_shapes"
    values = starting_values(subject)
    inputs = [slot for slot in subject.slots if slot.role == "input" and slot.value.dim()]
    first = next((slot for slot in inputs if slot.differentiable), None)
    if first is None:
        return [CheckResult.not_applicable(check, "no differentiable input has a dimension")]
    elsewhere = Elsewhere(check)
    only = [slot.name for slot in subject.slots if slot.differentiable]
    other = changed_values(subject, context, values)
    size = first.value.shape[0]
    sharing = [slot.name for slot in inputs if slot.value.shape[0] == size]
    if size > 1:
        one = {name: values[name][:1] for name in sharing}
        elsewhere.look(subject, context, one, "for one sample (dimension 0 of size 1)", only=only, harsh=False)
    if size and other is not None:
        more = {name: torch.cat([values[name], other[name]]) for name in sharing}
        elsewhere.look(subject, context, more, f"for dimension 0 of size {2 * size}", only=only, harsh=False)
        if subject.traits.torch_engine:
            stacked = _stacked(inputs, first, values, other)
            shape = tuple(stacked[first.name].shape)
            elsewhere.look(subject, context, stacked, f"for {first.name} of shape {shape}", only=only, harsh=False)
    return elsewhere.close("the forward accepts no other shape that was tried")


def _stacked(inputs: list[Slot], first: Slot, values: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """A new dimension of size 2 behind the first one (in front of a single one), for all inputs of the same shape."""
    axis = 1 if first.value.dim() > 1 else 0
    same = [slot.name for slot in inputs if slot.value.shape == first.value.shape]
    return {name: torch.stack([values[name], other[name]], dim=axis) for name in same}
