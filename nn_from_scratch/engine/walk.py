"""The walk that carries cotangents from outputs back through the records to the leaves."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from nn_from_scratch.engine.graph import Record, creator_of, releasing
from nn_from_scratch.errors import MissingRecordError

if TYPE_CHECKING:
    from nn_from_scratch.engine.module import Module

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
        MissingRecordError: a record on the way was cleared or released.
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
            upstream = sources.pop(record)
            record.needs = tuple([node is not None or id(x) in wanted_ids for x, node in upstream])
            cotangent = cotangents.pop(record, None)
            if cotangent is None:  # no use asked for this gradient, but what lies below waits for its turn
                handed_on: tuple[Tensor | None, ...] = (None,) * len(upstream)
            else:
                record.check_unmodified(module)
                handed_on = module.local_backward(cotangent, record)
                if releasing():
                    record.release()
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
