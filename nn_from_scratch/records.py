"""Records of forward passes, and the walk that carries cotangents back through them.

A record is what a module remembers of one forward pass. A tensor `y` made by a module carries two attributes,
`y.creator` (the module) and `y.input_index` (the index of the record there); a tensor without a creator is a leaf.
Together they are the computational graph, and this file alone knows how to follow it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import is_
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from nn_from_scratch.errors import (
    DeviceError,
    DtypeError,
    MissingRecordError,
    ModifiedTensorError,
    ShapeError,
)

if TYPE_CHECKING:
    from nn_from_scratch.module import Module

_recording: ContextVar[bool] = ContextVar("recording", default=True)


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


def _version(tensor: Tensor) -> int:
    # Tensors made under inference mode have no version counter, and so cannot be watched.
    return -1 if tensor.is_inference() else tensor._version


def _versions(tensors: tuple[Tensor, ...]) -> list[int]:
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:  # one of them has none
        return [_version(tensor) for tensor in tensors]


class Record:
    """One forward pass of one module.

    Attributes:
        inputs: the tensors that the module was called with, the very objects.
        saved: what the layer's forward kept for its derivative (a mask, its output, a norm).
        inner: the output that the last module inside a container gave; None for a layer.
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
    ) -> None:
        self.inputs = inputs
        self.saved = saved
        self.parameters = parameters
        self.inner = inner
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


K = TypeVar("K")
Node = tuple["Module", Record]


def _source_node(x: Tensor) -> Node | None:
    origin = creator_of(x)
    return None if origin is None else (origin[0], origin[0].record_at(origin[1]))


def propagate(starts: Iterable[tuple[Module, int, Tensor]], *, wanted: Sequence[Tensor] = ()) -> dict[int, Tensor]:
    """Carry cotangents from some outputs down to the leaves, adding to the parameters' `grad` on the way.

    The walk is iterative, and visits each record once: after every use of its output that can be reached from the
    starts has contributed (Kahn's topological order). Its cost is therefore linear in the number of records.

    Args:
        starts: for each output, the module that made it, the index of its record and the cotangent.
        wanted: tensors whose gradients are asked for; a leaf that is not among them costs nothing.

    Returns:
        The gradients of the wanted tensors, by `id`; one that no path reaches is absent.

    Raises:
        MissingRecordError: a record on the way was cleared.
        ModifiedTensorError: a tensor on the way was modified after the forward pass.
        ShapeError, DtypeError, DeviceError: a cotangent does not fit its output.
    """
    cotangents: dict[Record, Tensor] = {}
    nodes: list[Node] = []
    for module, index, start in starts:
        record = module.record_at(index)
        record.check_cotangent(start, module)
        if record not in cotangents:
            nodes.append((module, record))
        # Detached: an attribute or a graph that the caller's tensor carries must not travel along.
        _add(cotangents, record, start.detach())

    uses, sources = _survey(nodes)
    ready = [node for node in nodes if uses[node[1]] == 0]
    gradients: dict[int, Tensor] = {}
    wanted_ids = {id(tensor) for tensor in wanted}
    with torch.no_grad():
        while ready:
            module, record = ready.pop()
            upstream = sources[record]
            record.needs = tuple([node is not None or id(x) in wanted_ids for x, node in upstream])
            cotangent = cotangents.pop(record, None)
            if cotangent is None:  # no use asked for this gradient, but what lies below waits for its turn
                handed_on: tuple[Tensor | None, ...] = (None,) * len(upstream)
            else:
                record.check_unmodified(module)
                handed_on = module.local_backward(cotangent, record)
            for (x, node), gradient in zip(upstream, handed_on, strict=True):
                if gradient is not None:
                    if id(x) in wanted_ids:
                        _add(gradients, id(x), gradient)
                    if node is not None:
                        _add(cotangents, node[1], gradient)
                if node is not None:
                    uses[node[1]] -= 1
                    if uses[node[1]] == 0:
                        ready.append(node)
    return gradients


def _add(sums: dict[K, Tensor], key: K, term: Tensor) -> None:
    # Out of place: the first term may be a view of the caller's cotangent.
    sums[key] = sums[key] + term if key in sums else term


def _survey(starts: list[Node]) -> tuple[dict[Record, int], dict[Record, list[tuple[Tensor, Node | None]]]]:
    """For each record that can be reached: how many reachable ones use its output, and where its sources come from."""
    uses = {record: 0 for _, record in starts}
    sources: dict[Record, list[tuple[Tensor, Node | None]]] = {}
    stack = list(starts)
    while stack:
        _, record = stack.pop()
        sources[record] = found = [(x, _source_node(x)) for x in record.sources]
        for _, node in found:
            if node is None:
                continue
            if node[1] not in uses:
                uses[node[1]] = 0
                stack.append(node)
            uses[node[1]] += 1
    return uses, sources


def forget_consumers(records: Iterable[Record]) -> None:
    """Drop every record that was computed, however indirectly, from the given ones.

    Without its source such a record can only raise, or keep activations alive: this is how a loss forgets the
    errors of a model whose records were cleared.
    """
    stack = list(records)
    while stack:
        for reference, index in stack.pop().consumers:
            module = reference()
            dropped = None if module is None else module.drop_record(index)
            if dropped is not None:
                stack.append(dropped)


def register_consumer(x: Tensor, consumer: Module, index: int) -> None:
    """Note on the record that made `x` that the consumer's record of this index was computed from it."""
    origin = creator_of(x)
    if origin is None:
        return
    try:
        record = origin[0].record_at(origin[1])
    except MissingRecordError:
        return  # the backward pass will say so, if there is one
    record.consumers.append((weakref.ref(consumer), index))
