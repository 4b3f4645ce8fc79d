"""Entries picked by indices: an embedding, x[i], and `gather`. What is picked several times gets the sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import HALF_STEP, SPECIFIC
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation, with_gradient
from nn_from_scratch.verify.diagnosis.problem import Problem

_Pick = Callable[[Tensor, Tensor], Tensor]
"""From the tensor and the indices to the output."""


def indexing(problem: Problem) -> Iterator[Operation]:
    """Slices along each axis, or entries, of the tensor by each of the tensors that hold indices."""
    if problem.unary is None:
        return
    name, x, g = problem.unary
    indices = {key: t for key, t in problem.context.tensors.items() if t.dtype in (torch.int64, torch.int32)}
    for key, index in indices.items():
        if index.numel() and (int(index.min()) < 0 or not x.dim()):
            continue
        for dim in range(x.dim()):
            if g.shape == (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :]):
                yield _operation(f"the slices {key!r} along {problem.axis(dim)}", name, key, _slices(dim))
            if index.dim() == x.dim() and g.shape == index.shape:
                yield _operation(f"the entries {key!r} along {problem.axis(dim)}", name, key, _entries(dim))


def _slices(dim: int) -> _Pick:
    def pick(x: Tensor, index: Tensor) -> Tensor:
        return x.index_select(dim, index.flatten()).reshape(*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])

    return pick


def _entries(dim: int) -> _Pick:
    return lambda x, index: x.gather(dim, index.long())


def _operation(label: str, name: str, key: str, pick: _Pick) -> Operation:
    def counted(kept: Callable[[Tensor, Tensor], Tensor]) -> Forward:
        """A surrogate that passes on the cotangent of some of the picks: `kept(places, source)` has a weight for each.

        `places` counts the picks in the order in which a loop visits them, and `source` says which entry each picks.
        """

        def forward(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
            x = v[name]
            source = pick(torch.arange(x.numel()).reshape(x.shape), v[key]).flatten()
            weights = kept(torch.arange(source.numel()), source).to(g).reshape(g.shape)
            gradient = torch.zeros(x.numel(), dtype=g.dtype).index_add(0, source, (weights * g).flatten())
            return with_gradient(x, gradient.reshape(x.shape), g)

        return forward

    def chosen(reduce: str) -> Callable[[Tensor, Tensor], Tensor]:
        def kept(places: Tensor, source: Tensor) -> Tensor:
            extreme = torch.zeros(int(source.max()) + 1, dtype=places.dtype)
            return places == extreme.scatter_reduce(0, source, places, reduce, include_self=False)[source]

        return kept

    def shares(places: Tensor, source: Tensor) -> Tensor:
        return 1.0 / torch.bincount(source)[source]

    several = f"what {key!r} picks several times, where it should add them up"
    faults = [
        Fault("accumulation-overwritten", f"keeps only the {word} cotangent of {several}", counted(chosen(extreme)))
        for word, extreme in (("last", "amax"), ("first", "amin"))
    ]
    mean = f"takes the mean of the cotangents of {several}"
    faults.append(Fault("mean-for-sum", mean, counted(shares), SPECIFIC + HALF_STEP))
    return Operation(label, lambda v, g: pick(v[name], v[key]), tuple(faults))
