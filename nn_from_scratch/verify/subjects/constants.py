"""Every number of the adapters, with its unit and where it comes from."""

from __future__ import annotations

# Changes by which it is found out whether the output depends on a tensor, in mean sizes of its entries: one that stays
# within a domain, and one that crosses a threshold (a ReLU that is off). Reasoned, not measured.
CHANGES_OF_A_TENSOR = (0.01, 3.0)
