"""The entries of a catalogue, as data: subjects and optimizers, their cases, and what each must equal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.catalogue.twins import with_subject

Shape = tuple[int, ...]
Reference = Callable[..., Any]

#: Against the reference, in each dtype.
PARITY = ("value", "input_gradient", "parameter_gradient")
#: Against the subject's own forward, in the first dtype.
VERIFICATION = ("gradient", "complex_step", "contracts", "low_precision")
#: All checks, in the order in which the tests run; "trajectory" is for optimizers.
CHECKS = (*PARITY, *VERIFICATION, "trajectory")

#: The dtypes of the comparison with the reference: one to see every digit of a mistake, and the one that is used.
DTYPES = ("float64", "float32")
#: float32 in which products keep 10 bits of each factor, as GPUs compute them on demand.
TF32 = "tf32"

# A name is a part of a test's id, between hyphens.
_NAME = re.compile(r"[\w.+]+")


def name_of(subject: Any) -> str:
    """The name of a subject's class or function; those of a pair with a plus between them."""
    if isinstance(subject, tuple):
        return "+".join(map(name_of, subject))
    owner = getattr(subject, "__self__", None)
    if getattr(subject, "__name__", "") == "apply" and isinstance(owner, type):
        return owner.__name__
    return str(getattr(subject, "__name__", type(subject).__name__))


def _check_name(name: object, *, of: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArgumentError(
            f"name of {of} is {name!r}, but letters, digits, '_', '.' and '+' are expected, because hyphens separate "
            "it from the rest of the test's id"
        )


@dataclass(frozen=True)
class Case:
    """The arguments of a subject and the shapes of its inputs; for an optimizer, of the parameters that it updates.

    Attributes:
        name: unique within the entry, without hyphens; it becomes part of the test's id.
        shapes: one shape for each input.
        arguments, options: positional and keyword arguments of the class; a subject that no case constructs, such as
            a `torch.autograd.Function`, is called with them after the inputs.
        training: whether a subject with modes is in training mode.
        classes: for an input of integers, by its position, how many values it takes.

    Raises:
        ArgumentError: the name holds other characters.
    """

    name: str
    shapes: tuple[Shape, ...] = ()
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    training: bool = True
    classes: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name(self.name, of="a case")


@dataclass(frozen=True)
class Exemption:
    """A check that an entry is known not to pass; it still runs, and fails as soon as it passes.

    Attributes:
        check: one of `CHECKS`, or the name of a single contract check, such as "copies".
        reason: why; shown with the test.
        cases: the names of the cases that it is for; all of them by default.
        dtype: the dtype that it is for; all of them by default.

    Raises:
        ArgumentError: there is no reason.
    """

    check: str
    reason: str
    cases: tuple[str, ...] = ()
    dtype: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not self.reason.strip():
            raise ArgumentError(f"reason of the exemption from {self.check!r} is {self.reason!r}, but it must say why")

    def covers(self, check: str, case: str, dtype: str) -> bool:
        """Whether it is for this check, case and dtype."""
        return self.check == check and case in (self.cases or (case,)) and self.dtype in (None, dtype)


@dataclass(frozen=True)
class Spec:
    """All that the pyramid needs to know of one subject with a hand-written backward.

    Attributes:
        subject: a class, which each case makes an object of; or what is verified as it is, in any form that
            `nn_from_scratch.verify.check` takes (a `torch.autograd.Function`, a function, a pair, an object). A
            constructor that takes `generator` or `dtype` is given them, and the generators of torch, NumPy and Python
            are seeded around it.
        cases: at least one.
        reference: what the subject must equal. A function of torch, such as `F.softsign`, is called with the inputs
            and, by name, those arguments of the subject's constructor that are attributes of it. Any other callable
            is differentiable by torch and is called with the subject, its parameters by name, and the inputs; it
            changes none of them. If the subject is not a class, the case's arguments follow in both. By default the
            twin; without that either there is no parity with torch, and a GPU is compared with the subject itself on
            the CPU.
        kinks: called with the subject and the inputs; the distance of each entry to the nearest point without a
            derivative. Inputs are drawn with some distance to it.
        exemptions: checks that it is known not to pass.
        name: what the tests call it; that of the subject by default.
        drawn: whether parameters and buffers that start as constants are drawn between 1/2 and 3/2: a gain of one and
            a shift of zero hide mistakes.
        repeatable: for a subject that draws: makes of it one that draws the same in every call.
        variants: contexts, by name, within which the same is computed otherwise and parity is checked once more.
        numpy: whether the inputs are passed as NumPy arrays.
        dtypes: of the comparison with the reference; the first one is that of the verification. By default float64
            and float32, for NumPy float64 alone.
        options: of `nn_from_scratch.verify.check`, such as `mapping` or `factor`.
        twin: the class of torch.nn with the same parameters and buffers. An argument of its constructor is the
            subject's attribute of that name.
        attributes: for an argument that is not: which attribute it is, with dots, such as "geometry.kernel". If that
            is a tensor or None, a flag such as `affine` says whether it is there.

    Raises:
        ArgumentError: there is no case, two have one name, an exemption is for a case that is not there, or a name
            holds other characters than those of a test's id.
    """

    subject: Any
    cases: tuple[Case, ...]
    reference: Reference | None = None
    kinks: Callable[..., Any] | None = None
    exemptions: tuple[Exemption, ...] = ()
    name: str = ""
    drawn: bool = False
    repeatable: Callable[[Any], Any] | None = None
    variants: Mapping[str, Callable[[], AbstractContextManager[Any]]] = field(default_factory=dict)
    numpy: bool = False
    dtypes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    twin: Any = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or name_of(self.subject))
        object.__setattr__(self, "dtypes", self.dtypes or (DTYPES[:1] if self.numpy else DTYPES))
        object.__setattr__(self, "reference", with_subject(self.reference, self.twin, self.attributes))
        _check_entry(self)
        for variant in self.variants:
            _check_name(variant, of=f"a variant of {self.name}")


@dataclass(frozen=True)
class OptimizerSpec:
    """All that the pyramid needs to know of one optimizer.

    Attributes:
        optimizer: the class; called with what `hold` gives and the case's options. `step()` updates the parameters in
            place by their `grad`.
        cases: at least one; its shapes are those of the parameters, a matrix and a vector by default.
        reference: the class of torch.optim that it must equal; called with a list of tensors and the same options.
        hold: turns a list of tensors into what the optimizer takes; the list itself by default.
        exemptions: checks that it is known not to pass; the only check is "trajectory".
        name: what the tests call it; that of the class by default.
        steps: how many; by default 100, after which averages over 1 / (1 - 0.99) steps have settled.

    Raises:
        ArgumentError: as for `Spec`.
    """

    optimizer: Any
    cases: tuple[Case, ...]
    reference: Any
    hold: Callable[[Any], Any] = list
    exemptions: tuple[Exemption, ...] = ()
    name: str = ""
    dtypes: tuple[str, ...] = DTYPES
    steps: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or name_of(self.optimizer))
        _check_entry(self)


Entry = Spec | OptimizerSpec


def _check_entry(entry: Entry) -> None:
    _check_name(entry.name, of="an entry")
    if not entry.cases:
        raise ArgumentError(f"cases of {entry.name} is empty, but an entry without cases checks nothing")
    names = [case.name for case in entry.cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(f"cases of {entry.name} holds two of the name {twice[0]!r}, but names must differ")
    for exemption in entry.exemptions:
        for case in exemption.cases:
            if case not in names:
                raise ArgumentError(
                    f"an exemption of {entry.name} is for the case {case!r}, but its cases are {', '.join(names)}"
                )
