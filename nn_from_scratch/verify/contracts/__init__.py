"""Contract checks: what a backward must keep besides giving the right numbers.

Each gets a `ComparisonCollector` with the subject and the context, and gives one result, or one for each
tensor that it finds wrong. A check that does not apply to a subject says why, and one that could not decide
is undecided; neither is a pass.

A new check is a function under `@contract(order=...)` in any module of this folder; its name is the check's.
"""

from __future__ import annotations

import importlib
import pkgutil

from nn_from_scratch.verify.contracts.collector import (
    CONTRACTS,
    ELSEWHERE,
    ComparisonCollector,
    ContractCheck,
    contract,
)

__all__ = ["CONTRACTS", "ELSEWHERE", "ComparisonCollector", "ContractCheck", "contract"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
