"""A subject seen from other starting values."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Slot, Subject, Traits, Values

__all__ = ["Relocated"]


class Relocated:
    """The same subject with other values, perhaps of other shapes, in the place of its snapshot.

    Args:
        subject: the subject.
        values: the new starting values; slots that are left out keep theirs.
        only: the slots that are still to be differentiated; None for all that were.
    """

    def __init__(self, subject: Subject, values: Values, *, only: Collection[str] | None = None) -> None:
        self._subject = subject
        self._values = dict(values)
        self.name = subject.name
        self.form = subject.form
        self.notes: tuple[str, ...] = subject.notes
        self.traits: Traits = subject.traits
        self.target: object = subject.target
        self.slots: tuple[Slot, ...] = tuple(
            dataclasses.replace(
                slot,
                value=self._values.get(slot.name, slot.value),
                differentiable=slot.differentiable and (only is None or slot.name in only),
            )
            for slot in subject.slots
        )

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        """See `Subject.forward`."""
        return self._subject.forward({**self._values, **values})

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> Run:
        """See `Subject.run`."""
        held = values if beside is not None else {**self._values, **values}
        return self._subject.run(held, beside=beside, frozen=frozen)

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        """See `Subject.backward_together`."""
        return self._subject.backward_together(runs, cotangents)

    def rebuilt(self, target: object) -> Subject:
        """See `Subject.rebuilt`."""
        return Relocated(self._subject.rebuilt(target), self._values)
