"""What the axes of a tensor are, found out by what the forward does with single entries.

An entry that moves shows the outputs that depend on it. Of an image they lie in the same sample and close by, in
every channel (a convolution) or in its own (a pooling); or, for a norm over a channel, in that channel of all samples.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.probes import VariedOperand

Names = tuple[str | None, ...]

_PLACES = ("D", "H", "W")
_EXTENTS = ("depth", "height", "width")


def axis_names(varied: VariedOperand) -> Names:
    """A name for each axis of the operand, or None: N, C, H, W of an image; height and width of a kernel."""
    own, dims = _own_names(varied), varied.x.dim()
    if any(own) or not _may_be_image(dims):
        return own
    others = (other for other in _floating(varied) if other.name != varied.name and other.x.dim() == dims)
    return (
        (None, None, *_EXTENTS[len(_EXTENTS) + 2 - dims :])
        if any(_is_local(_touched(o), o.x, mixes=True) for o in others)
        else own
    )


def has_images(varied: VariedOperand) -> bool:
    """Whether the subject treats one of its inputs as images, or as signals: with channels and places."""
    return any("C" in _own_names(other) for other in _floating(varied) if _may_be_image(other.x.dim()))


def _may_be_image(dims: int) -> bool:
    return 2 < dims <= 2 + len(_PLACES)


def _of_image(dims: int) -> Names:
    """With one axis of places it may as well be a signal, whose axis has no usual letter."""
    return ("N", "C", None) if dims == 3 else ("N", "C", *_PLACES[len(_PLACES) + 2 - dims :])


def _floating(varied: VariedOperand) -> list[VariedOperand]:
    """Every operand of real numbers that varies in turn."""
    operands = [operand for operand in varied.point.subject.operands if operand.value.is_floating_point()]
    return [replace(varied, operand=operand) for operand in operands]


def batch_size(varied: VariedOperand) -> int | None:
    """N: the size of axis 0 of the first input and of the output, unless the forward mixes what lies along it."""
    point = varied.point
    inputs = [operand for operand in point.subject.operands if operand.role == "input"]
    outputs = list(point.named_outputs.values())
    if not inputs or not outputs or inputs[0].value.dim() == 0 or outputs[0].dim() == 0:
        return None
    size = int(inputs[0].value.shape[0])
    if size != outputs[0].shape[0]:
        return None
    first = replace(varied, operand=inputs[0])
    touched = _touched(first) if inputs[0].value.is_floating_point() else []
    apart = all(_only(reached.any(tuple(range(1, reached.dim()))), place[0]) for place, reached in touched)
    return size if apart or _is_normalized(touched) else None


def _own_names(varied: VariedOperand) -> Names:
    dims = varied.x.dim()
    nothing: Names = (None,) * dims
    touched = _touched(varied)
    if not touched or not all(reached.dim() and reached.shape[0] == varied.x.shape[0] for _, reached in touched):
        return nothing
    if _may_be_image(dims) and _is_normalized(touched):
        return _of_image(dims)
    if not all(
        _only(reached.flatten(1).any(1) if reached.dim() > 1 else reached, place[0]) for place, reached in touched
    ):
        return nothing
    if _may_be_image(dims) and (_is_local(touched, varied.x, mixes=True) or _is_local(touched, varied.x, mixes=False)):
        return _of_image(dims)
    # Samples apart, and something within a sample that is not: else no axis is different from the others.
    mixed = any(int(reached.sum()) > 1 or reached.dim() != dims for _, reached in touched)
    return ("N", *nothing[1:]) if mixed else nothing


Touched = list[tuple[tuple[int, ...], Tensor]]
"""Places of single entries, each with the outputs that change with it (bool)."""


def _touched(varied: VariedOperand) -> Touched:
    """What the first, a middle and the last entry reach, in a single output; empty where nothing can be said."""
    point, x = varied.point, varied.x
    outputs = list(point.named_outputs.values())
    if (
        len(outputs) != 1
        or point.finite is not None
        or x.numel() < constants.FEWEST_ENTRIES_WITH_AXES
        or x.is_complex()
    ):
        return []
    if outputs[0].is_complex():
        return []
    found = []
    for index in (0, (x.numel() - 1) // 2, x.numel() - 1):
        # Up by several times its size, so that a maximum notices.
        moved = x + (constants.NOTICED_MOVE * varied.single(index)).to(x.dtype)
        reached = (varied.outputs(moved) != point.outputs).reshape(outputs[0].shape)
        if bool(reached.any()):
            place = tuple(int(i) for i in torch.unravel_index(torch.tensor(index), x.shape))
            found.append((place, reached))
    return found


def _only(reached: Tensor, place: int) -> bool:
    """Whether of one axis (bool) nothing but this place is reached."""
    return bool(reached[place]) and int(reached.sum()) == 1


def _is_normalized(touched: Touched) -> bool:
    """Whether an entry reaches its own channel, whole and in several samples, and nothing else.

    With two axes alone a softmax over the samples does the same.
    """
    for place, reached in touched:
        if reached.dim() < 3 or len(place) != reached.dim() or place[1] >= reached.shape[1] or reached.shape[0] < 2:
            return False
        channel = torch.zeros_like(reached)
        channel[:, place[1]] = True
        if reached.shape[1] < 2 or not torch.equal(reached, channel):
            return False
    return bool(touched)


def _is_local(touched: Touched, x: Tensor, *, mixes: bool) -> bool:
    """Whether entries reach a part of every spatial axis alone, in all channels (`mixes`) or in their own."""
    several = False
    for place, reached in touched:
        if reached.dim() != x.dim() or reached.dim() < 3 or reached.shape[0] != x.shape[0]:
            return False
        if not _only(reached.flatten(1).any(1), place[0]):
            return False
        sample = reached[place[0]]  # (C, ...)
        channels = sample.flatten(1).any(1)
        if not (bool(channels.all()) if mixes else sample.shape[0] > place[1] and _only(channels, place[1])):
            return False
        for axis in range(1, sample.dim()):
            along = sample.any(tuple(a for a in range(sample.dim()) if a != axis))
            if bool(along.all()) and along.numel() > 1:
                return False
            several |= int(along.sum()) > 1
    # A function of single entries is no pooling: its output has another size, or an entry reaches several.
    return bool(touched) and (mixes or several or any(reached.shape != x.shape for _, reached in touched))
