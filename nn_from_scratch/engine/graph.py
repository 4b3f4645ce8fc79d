"""The computational graph: records of forward passes, the marks between them, and the traversal back through them.

A record is what a module remembers of one forward pass. A tensor `y` made by a module carries two attributes,
`y.creator` (the module) and `y.input_index` (the index of the record there); a tensor without a creator is a leaf
(report, II). `propagate` follows these marks from outputs to the leaves.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import is_
from typing import NamedTuple, NoReturn, Protocol, TypeVar, cast

import torch
from torch import Tensor

from nn_from_scratch.errors import (
    DeviceError,
    DtypeError,
    MissingRecordError,
    ModifiedTensorError,
    ShapeError,
)

K = TypeVar("K")

_recording: ContextVar[bool] = ContextVar("recording", default=True)
_releasing: ContextVar[bool] = ContextVar("releasing", default=False)


@contextmanager
def no_records() -> Iterator[None]:
    """Context manager that keeps modules from remembering anything, as for validation or prediction.

    The outputs have no creator, so a backward pass cannot start from them.
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def recording() -> bool:
    """Whether a forward pass keeps a record (it does not under `no_records`)."""
    return _recording.get()


@contextmanager
def release_records() -> Iterator[None]:
    """Context manager that frees what a record holds as soon as backward has used it, or if no derivative needs it.

    A training step then takes no more memory than PyTorch's, which does the same (without `retain_graph`). A second
    backward from the same output is refused, and `xs` holds placeholders for inputs that no derivative looks at.
    """
    token = _releasing.set(True)
    try:
        yield
    finally:
        _releasing.reset(token)


def releasing() -> bool:
    """Whether records are released, as under `release_records`."""
    return _releasing.get()


class Saving(NamedTuple):
    """What a layer's `forward` returns when its derivative needs more than the inputs."""

    y: Tensor
    saved: tuple[Tensor, ...]


class Owner(Protocol):
    """What the graph asks of a module: to find its records, and to take one step back through one of them."""

    def record_at(self, index: int) -> Record:
        """The pending record with this index."""

    def drop_record(self, index: int) -> Record | None:
        """Forget one record, if it is pending, and return it."""

    def own_parameters(self) -> dict[str, Tensor]:
        """The parameters that the derivative depends on, by name."""

    def local_backward(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        """Add to the parameters' `grad`, and return the cotangents of `record.sources`."""

    def short_name(self) -> str:
        """One line for messages."""


class Record:
    """One forward pass of one module.

    Attributes:
        inputs: the tensors that the module was called with, the very objects.
        saved: what the layer's forward kept for its derivative (a mask, its output, a norm).
        parameters: those of the layer, by name.
        inner: the output that the last module inside a container gave; None for a layer.
        watched: inputs, saved tensors and parameters, which must not change before backward.
        released: whether a backward pass has used it and let go of what it held.
        needs: for each input, whether the traversal under way wants its gradient.
    """

    __slots__ = (
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
        "watched",
    )

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        output: Tensor,
        *,
        saved: tuple[Tensor, ...] = (),
        parameters: Mapping[str, Tensor] | None = None,
        inner: Tensor | None = None,
        keep_inputs: bool = True,
    ) -> None:
        if not keep_inputs:
            inputs = tuple([cast(Tensor, Placeholder(x)) for x in inputs])
            inner = None if inner is None else cast(Tensor, Placeholder(inner))
        self.inputs = inputs
        self.saved = saved
        self.parameters: Mapping[str, Tensor] = parameters or {}
        self.inner = inner
        self.released = False
        self.shape, self.dtype, self.device = output.shape, output.dtype, output.device
        self.needs: tuple[bool, ...] = (True,) * len(inputs)
        self.watched = (*inputs, *saved, *self.parameters.values())
        self.versions = _versions(self.watched)
        # Who used the output: weak, because a user's module may die before the model's records are cleared.
        self.consumers: list[tuple[weakref.ref[Owner], int]] = []

    @property
    def x(self) -> Tensor:
        """The first input, which for most layers is the only one."""
        return self.inputs[0]

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The tensors whose cotangents come next: the inputs, or what a container's inside gave."""
        return self.inputs if self.inner is None else (self.inner,)

    def release(self) -> None:
        """Let go of all tensors, after which the record is of no use."""
        self.inputs, self.saved, self.watched, self.parameters, self.inner = (), (), (), {}, None
        self.released = True

    def check_unmodified(self, owner: Owner) -> None:
        """Refuse to differentiate at a point that has moved since the forward pass.

        Raises:
            ModifiedTensorError: an input, a saved tensor or a parameter was modified in place or replaced.
        """
        current = owner.own_parameters()
        same = len(current) == len(self.parameters) and all(map(is_, self.parameters.values(), current.values()))
        if same and _versions(self.watched) == self.versions:
            return
        names = [
            *(f"input {place}" for place in range(len(self.inputs))),
            *(f"saved tensor {place}" for place in range(len(self.saved))),
            *(f"parameter {name!r}" for name in self.parameters),
        ]
        for name, tensor, version in zip(names, self.watched, self.versions, strict=True):
            replaced = name.startswith("parameter") and not any(tensor is other for other in current.values())
            if replaced or _version(tensor) != version:
                raise ModifiedTensorError(
                    f"{name} of {owner.short_name()} was modified or replaced after the forward pass, so its gradient "
                    "would be taken at another point; run backward before changing it, or the forward pass again"
                )

    def check_cotangent(self, cotangent: Tensor, owner: Owner) -> None:
        """Refuse a cotangent that does not fit the output of this forward pass.

        Raises:
            ShapeError: the shapes differ.
            DtypeError: the dtypes differ, or the output is complex.
            DeviceError: the devices differ.
        """
        if not isinstance(cotangent, Tensor):
            raise DtypeError(f"gradwrtoutput is a {type(cotangent).__name__}, but a torch.Tensor is expected")
        if cotangent.is_nested or cotangent.layout is not torch.strided:
            raise DtypeError(
                f"gradwrtoutput of {owner.short_name()} is sparse, nested or opaque, but a dense one is expected"
            )
        fits = (self.shape, self.dtype, self.device) == (cotangent.shape, cotangent.dtype, cotangent.device)
        if fits and not self.dtype.is_complex:
            return
        name = owner.short_name()
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


class Placeholder:
    """Stands for an input that no derivative looks at: its shape, dtype, device and marks, without its memory."""

    def __init__(self, x: Tensor) -> None:
        self.shape, self.dtype, self.device = x.shape, x.dtype, x.device
        self._version = 0
        origin = creator_of(x)
        if origin is not None:
            self.creator, self.input_index = origin

    def __len__(self) -> int:
        return self.shape[0]

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{name!r} of an input was not kept: a layer with needs_inputs = False may ask for shape, dtype and device"
        )


def _version(tensor: Tensor) -> int:
    # Tensors made under inference mode have no version counter, and so cannot be watched.
    return -1 if tensor.is_inference() else tensor._version


def _versions(tensors: tuple[Tensor, ...]) -> list[int]:
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:  # one of them has none
        return [_version(tensor) for tensor in tensors]


# ---- marks


def link(y: Tensor, creator: Owner, input_index: int) -> None:
    """Set `y.creator` and `y.input_index`."""
    marks = y.__dict__
    marks["creator"] = creator
    marks["input_index"] = input_index


def creator_of(x: Tensor) -> tuple[Owner, int] | None:
    """The module that made `x` and the index of its record there, or None for a leaf."""
    marks = x.__dict__
    if "creator" not in marks:
        return None
    return marks["creator"], marks["input_index"]


def input_index_of(cotangent: Tensor) -> int | None:
    """The index that a cotangent carries as `gradwrtoutput.input_index`, if any."""
    index: int | None = cotangent.__dict__.get("input_index")
    return index


def register_consumer(x: Tensor, consumer: Owner, index: int) -> None:
    """Note on the record that made `x` that the consumer's record with this index was computed from it."""
    origin = creator_of(x)
    if origin is None:
        return
    try:
        record = origin[0].record_at(origin[1])
    except MissingRecordError:
        return  # the backward pass will say so, if there is one
    record.consumers.append((weakref.ref(consumer), index))


def forget_consumers(records: Iterable[Record]) -> None:
    """Drop every record that was computed, however indirectly, from the given ones.

    Without its source such a record can only raise, or keep activations alive: this is how a loss forgets the
    errors of a model whose records were cleared.
    """
    stack = list(records)
    while stack:
        for reference, index in stack.pop().consumers:
            owner = reference()
            dropped = None if owner is None else owner.drop_record(index)
            if dropped is not None:
                stack.append(dropped)


# ---- traversal

Node = tuple[Owner, Record]


def propagate(starts: Iterable[tuple[Owner, Record, Tensor]], *, wanted: Sequence[Tensor] = ()) -> dict[int, Tensor]:
    """Carry cotangents from some outputs down to the leaves, adding to the parameters' `grad` on the way.

    The traversal is iterative, and visits each record once: after every use of its output that can be reached from
    the starts has contributed (Kahn's topological order). Its cost is therefore linear in the number of records.

    Args:
        starts: for each output, the module that made it, its record there and the cotangent.
        wanted: tensors whose gradients are asked for; a leaf that is not among them costs nothing.

    Returns:
        The gradients of the wanted tensors, by `id`; one that no path reaches is absent.

    Raises:
        MissingRecordError: a record on the way was cleared or released.
        ModifiedTensorError: a tensor on the way was modified after the forward pass.
        ShapeError, DtypeError, DeviceError: a cotangent does not fit its output.
    """
    cotangents: dict[Record, Tensor] = {}
    nodes: list[Node] = []
    for owner, record, start in starts:
        record.check_cotangent(start, owner)
        if record not in cotangents:
            nodes.append((owner, record))
        # Detached: an attribute or a graph that the caller's tensor carries must not travel along.
        _add(cotangents, record, start.detach())

    uses, sources = _survey(nodes)
    ready = [node for node in nodes if uses[node[1]] == 0]
    gradients: dict[int, Tensor] = {}
    wanted_ids = {id(tensor) for tensor in wanted}
    release = releasing()
    with torch.no_grad():
        while ready:
            owner, record = ready.pop()
            upstream = sources.pop(record)
            record.needs = tuple([node is not None or id(x) in wanted_ids for x, node in upstream])
            cotangent = cotangents.pop(record, None)
            if cotangent is None:  # no use asked for this gradient, but what lies below waits for its turn
                local: tuple[Tensor | None, ...] = (None,) * len(upstream)
            else:
                record.check_unmodified(owner)
                local = owner.local_backward(cotangent, record)
                if release:
                    record.release()
            for (x, node), gradient in zip(upstream, local, strict=True):
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


def _source_node(x: Tensor) -> Node | None:
    origin = creator_of(x)
    return None if origin is None else (origin[0], origin[0].record_at(origin[1]))
