"""Records of forward passes, and the marks that lead from one to the next.

A record is what a module remembers of one forward pass. A tensor `y` made by a module carries two attributes,
`y.creator` (the module) and `y.input_index` (the index of the record there); a tensor without a creator is a leaf.
Together they are the computational graph, which `walk.py` follows.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from operator import is_
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from nn_from_scratch.errors import (
    DeviceError,
    DtypeError,
    ModifiedTensorError,
    ShapeError,
)

if TYPE_CHECKING:
    from nn_from_scratch.engine.module import Module

_recording: ContextVar[bool] = ContextVar("recording", default=True)
_releasing: ContextVar[bool] = ContextVar("releasing", default=False)


@contextmanager
def no_records() -> Iterator[None]:
    """Within it, modules compute values and remember nothing, as for validation or prediction.

    The outputs have no creator, so a backward pass cannot start from them.
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def recording() -> bool:
    """Whether a forward pass keeps a record (it does not within `no_records`)."""
    return _recording.get()


@contextmanager
def release_records() -> Iterator[None]:
    """Within it, backward lets go of what a record holds as soon as it has used it, and a forward of what nobody needs.

    A training step then needs no more memory than PyTorch's, which does so too (without `retain_graph`). A second
    backward from the same output is refused, and `xs` holds stand-ins for inputs at which no derivative looks.
    """
    token = _releasing.set(True)
    try:
        yield
    finally:
        _releasing.reset(token)


def releasing() -> bool:
    """Whether this is within `release_records`."""
    return _releasing.get()


def stand_in(x: Tensor) -> Tensor:
    """A tensor like x, of its shape, dtype and device and with its marks, but without its entries or their memory."""
    y = x.new_empty(()).expand(x.shape)
    origin = creator_of(x)
    if origin is not None:
        link(y, *origin)
    return y


def _version(tensor: Tensor) -> int:
    # Tensors made under inference mode have no version counter, and so cannot be watched.
    return -1 if tensor.is_inference() else tensor._version


def _versions(tensors: tuple[Tensor, ...]) -> list[int]:
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:  # one of them has none
        return [_version(tensor) for tensor in tensors]


class Saving(NamedTuple):
    """What a layer's `forward` returns when its derivative needs more than the inputs."""

    y: Tensor
    saved: tuple[Tensor, ...]


class Record:
    """One forward pass of one module.

    Attributes:
        inputs: the tensors that the module was called with, the very objects.
        saved: what the layer's forward kept for its derivative (a mask, its output, a norm).
        inner: the output that the last module inside a container gave; None for a layer.
        released: whether a backward pass has used it and let go of what it held.
        needs: for each input, whether the walk under way wants its gradient.
    """

    __slots__ = (
        "__weakref__",
        "consumers",
        "device",
        "dtype",
        "inner",
        "inputs",
        "needs",
        "parameters",
        "released",
        "saved",
        "shape",
        "versions",
    )

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        output: Tensor,
        *,
        saved: tuple[Tensor, ...] = (),
        parameters: tuple[Tensor, ...] = (),
        inner: Tensor | None = None,
        hollow: bool = False,
    ) -> None:
        if hollow:
            inputs, inner = tuple(map(stand_in, inputs)), None if inner is None else stand_in(inner)
        self.inputs = inputs
        self.saved = saved
        self.parameters = parameters
        self.inner = inner
        self.released = False
        self.shape, self.dtype, self.device = output.shape, output.dtype, output.device
        self.needs: tuple[bool, ...] = (True,) * len(inputs)
        self.versions = _versions(inputs + saved + parameters)
        # Who used the output: weak, because a user's module may die before the model's records are cleared.
        self.consumers: list[tuple[weakref.ref[Module], int]] = []

    @property
    def x(self) -> Tensor:
        """The first input, which for most layers is the only one."""
        return self.inputs[0]

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The tensors that the cotangent is handed on to: the inputs, or what a container's inside gave."""
        return self.inputs if self.inner is None else (self.inner,)

    def release(self) -> None:
        """Let go of all tensors, after which it is of no use."""
        self.inputs = self.saved = self.parameters = ()
        self.inner = None
        self.released = True

    def check_unmodified(self, module: Module) -> None:
        """Refuse to differentiate at a point that has moved since the forward pass.

        Raises:
            ModifiedTensorError: an input, a saved tensor or a parameter was modified in place or replaced.
        """
        current = tuple(module.own_parameters().values())
        watched = self.inputs + self.saved + self.parameters
        same = len(current) == len(self.parameters) and all(map(is_, self.parameters, current))
        if same and _versions(watched) == self.versions:
            return
        for place, (tensor, version) in enumerate(zip(watched, self.versions, strict=True)):
            parameter = place - len(self.inputs) - len(self.saved)
            if _version(tensor) == version and (parameter < 0 or tensor is current[parameter]):
                continue
            if place < len(self.inputs):
                what = f"input {place}"
            elif parameter < 0:
                what = f"saved tensor {place - len(self.inputs)}"
            else:
                what = f"parameter {list(module.own_parameters())[parameter]!r}"
            raise ModifiedTensorError(
                f"{what} of {module.short_name()} was modified or replaced after the forward pass, so its gradient "
                "would be taken at another point; run backward before changing it, or the forward pass again"
            )

    def check_cotangent(self, cotangent: Tensor, module: Module) -> None:
        """Refuse a cotangent that does not fit the output of this forward pass.

        Raises:
            ShapeError: the shapes differ.
            DtypeError: the dtypes differ, or the output is complex.
            DeviceError: the devices differ.
        """
        if not isinstance(cotangent, Tensor):
            raise DtypeError(f"gradwrtoutput is a {type(cotangent).__name__}, not a torch.Tensor")
        fits = (self.shape, self.dtype, self.device) == (cotangent.shape, cotangent.dtype, cotangent.device)
        if fits and not self.dtype.is_complex:
            return
        name = module.short_name()
        if cotangent.shape != self.shape:
            raise ShapeError(
                f"gradwrtoutput of {name} has shape {tuple(cotangent.shape)}, but the output of that forward pass "
                f"has shape {tuple(self.shape)}"
            )
        if self.dtype.is_complex:
            raise DtypeError(f"backward of {name} is defined for real outputs, not for dtype {self.dtype}")
        if cotangent.dtype != self.dtype:
            raise DtypeError(
                f"gradwrtoutput of {name} has dtype {cotangent.dtype}, but the output has dtype {self.dtype}"
            )
        raise DeviceError(f"gradwrtoutput of {name} lies on {cotangent.device}, but the output lies on {self.device}")


def link(y: Tensor, creator: Module, input_index: int) -> None:
    """Set `y.creator` and `y.input_index`."""
    attributes = vars(y)
    attributes["creator"] = creator
    attributes["input_index"] = input_index


def creator_of(x: Tensor) -> tuple[Module, int] | None:
    """The module that made `x` and the index of its record there, or None for a leaf."""
    attributes = vars(x)
    if "creator" not in attributes:
        return None
    return attributes["creator"], attributes["input_index"]


def input_index_of(cotangent: Tensor) -> int | None:
    """The index that a cotangent carries as `gradwrtoutput.input_index`, if any."""
    index: int | None = vars(cotangent).get("input_index")
    return index
