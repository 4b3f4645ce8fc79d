"""What the verifier sees of a subject: named tensors in, named tensors out, and a backward pass.

Every form that a hand-written backward comes in (an engine module, an autograd function, a pair of NumPy
functions, ...) is brought into this one shape by an adapter of `nn_from_scratch.verify.subjects`. The
numerical derivative, the contract checks and the diagnosis know nothing but what stands here.

Whatever goes wrong inside a subject (it raises, or returns what its form does not allow) reaches the caller
as a `SubjectError` whose message names the subject's own exception; the exception itself is its `__cause__`.
What must cross a subject unharmed, such as a time limit, derives from `BaseException` and not from
`Exception`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

Values = Mapping[str, Tensor]
"""Tensors by the name of their operand; one that is left out keeps its starting value."""

Cotangents = Mapping[str, Tensor]
"""Tensors by the name of the output that they belong to; an output that is left out has cotangent zero."""

Gradients = Mapping[str, "Tensor | None"]
"""One entry for each differentiable operand; None where the subject returned none."""

Role = Literal["input", "parameter"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Operand:
    """One tensor that a subject depends on.

    Attributes:
        name: The name of the argument or parameter (`"x"`, `"0.weight"`), or `"input0"` where it has none.
        role: Whether it is handed over in a call, or held by the subject.
        differentiable: True for a floating-point or complex tensor that was not declared constant.
        required: The caller asked for this gradient (by `requires_grad`, by `differentiable=`, or because it
            is a parameter), so None stands for zero. False: a None says that the subject has no gradient
            here.
        value: The starting value, detached; it never shares memory with the caller's tensor.
    """

    name: str
    role: Role
    differentiable: bool
    required: bool
    value: Tensor


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a subject's form allows; a check that needs more does not apply.

    Attributes:
        several_pending: Several forward passes may be waiting for their backward.
        backward_twice: One forward pass may be followed by several backwards.
        parameter_gradients: `"returned"` by the backward, or left in a field of the parameter, to which it
            `"adds"`, or which it `"overwrites"`.
        freezable: An operand can be left out of the differentiation, and the subject is told so.
        torch_engine: PyTorch's own engine calls the backward, so gradients may share memory with the
            cotangent and with each other.
        dtypes: The subject computes in the dtype of its inputs as far as its form goes (False for NumPy code
            in dtypes that NumPy lacks is found when it is tried).
        devices: The subject can be moved to another device.
        reusable: One object may be called again after its backward, by a run `beside` the one before, although it
            remembers one pass alone.
        copies: `rebuilt` can wrap a copy of the subject's own object.
        pairs: The names of operands and outputs that are complex, and are seen as pairs of real numbers along a last
            dimension of size 2.
    """

    several_pending: bool = False
    backward_twice: bool = False
    parameter_gradients: Literal["returned", "adds", "overwrites"] = "returned"
    freezable: bool = False
    torch_engine: bool = False
    dtypes: bool = True
    devices: bool = True
    reusable: bool = False
    copies: bool = True
    pairs: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class SubjectOptions:
    """What `check` and `as_subject` may be told about a subject, besides its inputs.

    Attributes:
        keywords: Further arguments of the subject, by name.
        parameters: For a callable: tensors that it captures, by name, beside those that are found.
        mapping: For a layer object: the dotted path of each parameter to that of its gradient, such as
            `{"kernel": "kernel_update"}`.
        names: What to call the inputs; by default what the subject's signature calls them.
        differentiable: The names of the inputs whose gradients are checked; by default those that require grad, or
            all real floating-point ones where none does.
        cache: For a pair: whether the forward returns `(y, cache)`; by default the signatures say so.
        form: Which form the subject has, where it could be taken for several.
        name: What messages call the subject.
    """

    keywords: Mapping[str, object] | None = None
    parameters: Mapping[str, Tensor] | None = None
    mapping: Mapping[str, str] | None = None
    names: Sequence[str] | None = None
    differentiable: Collection[str] | None = None
    cache: bool | None = None
    form: str | None = None
    name: str | None = None


class Run(Protocol):
    """One forward pass, remembered."""

    @property
    def outputs(self) -> Mapping[str, Tensor]:
        """The outputs: `"y"` for a single one, else `"y0"`, `"y1"`, ... or the keys of a dictionary.

        Detached only: they are views of what the subject returned, not copies.
        """

    @property
    def handed(self) -> Mapping[str, Tensor]:
        """What the subject was handed for this pass, by operand: views of the very memory that it sees."""

    def backward(self, cotangents: Cotangents) -> Gradients:
        """The gradient of <cotangents, outputs> for each differentiable operand, just as the subject gave it.

        A gradient that the subject leaves in a field is cleared before, so that the value is this call's
        alone. The cotangents are handed over as they are (layout and memory). May be called again where
        `Traits.backward_twice`.

        Raises:
            SubjectError: The subject raised, or returned another number or kind of gradients than its form
                says.
        """

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        """As `backward`, but onto parameters' gradient fields that hold `held`; gives the fields after it.

        Only parameters have entries. Only where `Traits.parameter_gradients` is not `"returned"`.
        """

    def release(self) -> None:
        """Drop this pass in the way that the form provides (`clear_saved_tensors`, or just let go of it)."""


@runtime_checkable
class Subject(Protocol):
    """Something whose backward is to be verified."""

    @property
    def name(self) -> str:
        """What messages call it, for example `"MyFunction"`."""

    @property
    def form(self) -> str:
        """`"autograd"`, `"torch module"`, `"engine module"`, `"pair"` or `"layer object"`."""

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Inputs first, then parameters."""

    @property
    def traits(self) -> Traits:
        """What the form allows."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the adapter found out and the report should say, for example that gradients overwrite."""

    @property
    def target(self) -> object:
        """The object that was handed to the verifier."""

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        """The outputs alone, without gradient recording; no state that matters is left behind.

        Values may have another dtype (complex included), layout, device or batch size than the snapshot. They
        are copied (layout kept) before the subject sees them, so it cannot spoil the caller's tensors.
        Parameters are put in place for the call and restored after it, also when the subject raises.
        """

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> Run:
        """A forward pass that can be differentiated. Values are treated as in `forward`.

        Args:
            values: Tensors by operand.
            beside: An earlier run of this subject: the new pass is made with the same object, parameters and
                leaves, so that state which one pass leaves behind meets the other. Operands that are not in
                `values` are the very tensors of the earlier run.
            frozen: Differentiable operands to leave out, where `Traits.freezable`.
        """

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        """The gradient of several runs at once, summed by the machinery that the subject lives in.

        The runs must be beside each other. Operands that the runs share get the sum of their gradients.
        Only where `Traits.several_pending` and the form has such a machinery.

        Raises:
            SubjectError: The subject raised, or its form has no such machinery.
        """

    def rebuilt(self, target: object) -> Subject:
        """The same subject around another object, for example around a copy of `target`."""


def starting_values(subject: Subject) -> dict[str, Tensor]:
    """The snapshot of every operand of a subject, by name."""
    return {operand.name: operand.value for operand in subject.operands}
