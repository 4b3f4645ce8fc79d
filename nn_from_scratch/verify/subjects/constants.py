"""Every number of the adapters, with its unit and where it comes from."""

from __future__ import annotations

# Changes by which it is found out whether the output depends on a tensor, in mean sizes of its entries: one that stays
# within a domain, and one that crosses a threshold (a ReLU that is off). Reasoned, not measured.
CHANGES_OF_A_TENSOR = (0.01, 3.0)
# A derivative that is given entry by entry is told from that of the output by central differences: their step in powers
# of the rounding, where truncation and rounding balance, and a relative difference far above both.
STEP_POWER = 1 / 3
CLOSE_DERIVATIVE = 1e-2
# The learning rate that a backward which updates its parameters is given, as a power of two, which scales exactly: an
# update is large beside the parameter, also of cotangents of 1e-6, and far from an overflow in float32.
RATE_POWER = 30
# Characters of a subject's own error that a finding quotes: three or four lines, more than any sentence of a person.
QUOTED_CHARACTERS = 400
