"""Scaled dot-product attention, y = softmax(s·q kᵀ) v, perhaps causal or masked, perhaps with fewer heads for k and v.

With P = softmax(s·q kᵀ), dV = Pᵀ g and dS = s·P (g vᵀ - Σ P g vᵀ), dq = dS k and dk = dSᵀ q. Axes: (..., H, T, D), with
queries along T of q and keys along T of k and v.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import HALF_STEP, SPECIFIC
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation, with_gradient
from nn_from_scratch.verify.diagnosis.problem import Problem


@dataclass(frozen=True)
class _Attention:
    """One attention by the names of its tensors.

    Attributes:
        scaled: Whether the products are divided by √D.
        mask: "causal", the name of a tensor (bool, True where a query sees a key), or None.
        shared: How many heads of q share one of k and v; neighbors do, or those `interleaved` among the others.
    """

    q: str
    k: str
    v: str
    scaled: bool
    mask: str | None
    shared: int
    interleaved: bool

    def __call__(self, values: Mapping[str, Tensor], g: Tensor) -> Tensor:
        return self._weights(values) @ self._repeated(values[self.v])

    def wrong(
        self,
        name: str,
        *,
        masked: bool = True,
        term: int | None = -1,
        of_output: bool = False,
        mixed: bool = False,
        diagonal: bool = False,
        turned: bool = True,
    ) -> Forward:
        """A surrogate with the gradient of a faulty backward.

        Args:
            masked: Whether P is computed again with the mask.
            term: The axis that Σ P g vᵀ runs over; None leaves it out.
            of_output: Whether that sum comes from the output, as Σ g y, so that it knows the mask.
            mixed: Whether the sum over heads that share one of k and v takes the wrong ones.
            diagonal: Whether of softmax's Jacobian the diagonal alone is kept.
            turned: Whether P and dS are transposed in the gradients of v and k.
        """

        def forward(values: Mapping[str, Tensor], g: Tensor) -> Tensor:
            q, k, v = values[self.q], self._repeated(values[self.k]), self._repeated(values[self.v])
            weights = self._weights(values, masked=masked)
            products = g @ v.transpose(-1, -2)
            row = torch.zeros_like(products[..., :1])
            if of_output:
                row = (g * self(values, g)).sum(-1, keepdim=True)
            elif term is not None:
                row = (weights * products).sum(term, keepdim=True)
            inner = self._scale(q) * weights * (products * (1 - weights) if diagonal else products - row)
            if name == self.q:
                return with_gradient(values[name], inner @ k, g)
            left, right = (inner, q) if name == self.k else (weights, g)
            gradient = (left.transpose(-1, -2) if turned else left) @ right
            return with_gradient(values[name], self._collected(gradient, mixed=mixed), g)

        return forward

    def _scale(self, q: Tensor) -> float:
        return float(q.shape[-1] ** -0.5) if self.scaled else 1.0

    def _weights(self, values: Mapping[str, Tensor], *, masked: bool = True) -> Tensor:
        q, k = values[self.q], self._repeated(values[self.k])
        scores = self._scale(q) * q @ k.transpose(-1, -2)
        if masked and self.mask is not None:
            causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
            scores = scores.masked_fill(~(causal if self.mask == "causal" else values[self.mask]), -torch.inf)
        return scores.softmax(-1)

    def _repeated(self, t: Tensor) -> Tensor:
        """A tensor with fewer heads, one for each head of q."""
        if self.shared == 1:
            return t
        return t.repeat_interleave(self.shared, -3) if not self.interleaved else torch.cat([t] * self.shared, -3)

    def _collected(self, t: Tensor, *, mixed: bool) -> Tensor:
        """The sum over the heads that share one; of the wrong ones where `mixed`."""
        if self.shared == 1:
            return t
        heads = t.shape[-3] // self.shared
        if self.interleaved == mixed:
            return t.reshape(*t.shape[:-3], heads, self.shared, *t.shape[-2:]).sum(-3)
        return t.reshape(*t.shape[:-3], self.shared, heads, *t.shape[-2:]).sum(-4)


def attention(problem: Problem) -> Iterator[Operation]:
    """Attention between three of the tensors, in any order of them."""
    context, g = problem.context, problem.context.only_cotangent
    if g is None or g.dim() < 2 or problem.complex or context.name is None:
        return
    tensors = context.tensors
    floating = [name for name, t in tensors.items() if t.dtype.is_floating_point and t.dim() == g.dim()]
    masks = [None, "causal", *(name for name, t in tensors.items() if t.dtype == torch.bool)]
    for q, k, v in permutations(floating, 3):
        shared = _shared(tensors[q], tensors[k], tensors[v], g)
        if shared is None or context.name not in (q, k, v):
            continue
        for mask in masks:
            for scaled in (True, False):
                for interleaved in (False, True) if shared > 1 else (False,):
                    found = _Attention(q, k, v, scaled, mask, shared, interleaved)
                    yield Operation("attention", found, tuple(_faults(found, context.name)))


def _shared(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> int | None:
    """How many heads of q share one of k and v; None where the shapes do not fit."""
    fits = q.shape[-1] == k.shape[-1] and k.shape[:-1] == v.shape[:-1] and g.shape == (*q.shape[:-1], v.shape[-1])
    if not fits:
        return None
    if q.shape[:-2] == k.shape[:-2]:
        return 1
    if q.shape[:-3] != k.shape[:-3] or not k.shape[-3] or q.shape[-3] % k.shape[-3]:
        return None
    return int(q.shape[-3] // k.shape[-3])


def _faults(right: _Attention, name: str) -> Iterator[Fault]:
    if right.mask is not None:
        which = "causal mask" if right.mask == "causal" else f"mask {right.mask!r}"
        claim = f"forgets the {which} where it computes the weights P again"
        yield Fault("mask-missing", claim, right.wrong(name, masked=False))
        if name != right.v:
            again = f"{claim}, and takes Σ(g·y) from the output"
            yield Fault("mask-missing", again, right.wrong(name, masked=False, of_output=True), SPECIFIC + HALF_STEP)
    if right.shared > 1 and name != right.q:
        claim = f"sums over the wrong heads: those that share one head of {name!r} are "
        claim += "interleaved with the others" if right.interleaved else "neighbors"
        yield Fault("heads-mixed", claim, right.wrong(name, mixed=True))
    if name != right.q:
        claim = f"uses {'dS' if name == right.k else 'P'} where it should use its transpose"
        yield Fault("operand-transposed", claim, right.wrong(name, turned=False))
    if name != right.v:
        claim = "keeps only the diagonal of softmax's Jacobian, P(1 - P)"
        yield Fault("jacobian-diagonal", claim, right.wrong(name, diagonal=True))
        missing = "lacks the term of softmax's Jacobian that sums over the keys, -P·Σ(P·(g vᵀ))"
        yield Fault("sum-term-missing", missing, right.wrong(name, term=None))
        claim = "sums over the queries in softmax's Jacobian, where it should sum over the keys"
        yield Fault("wrong-axis", claim, right.wrong(name, term=-2))
