"""Each kind of job: a function from the plan to JSON values."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from nn_from_scratch.bench.table1 import Settings, run_table
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.parity.follow import follow
from nn_from_scratch.reproduction.final import final
from nn_from_scratch.reproduction.memory import memory
from nn_from_scratch.reproduction.plan import Job, Plan
from nn_from_scratch.reproduction.training_curves import curve, rounding

__all__ = ["run_job"]

_PARITY_BATCH = 4


def run_job(plan: Plan, job: Job, folder: Path) -> dict[str, Any]:
    """Do one job.

    Args:
        plan: how much is done.
        job: which.
        folder: where a job may keep what it wants to find again after a kill.

    Returns:
        Its results, JSON values.
    """
    if job.kind == "curve":
        return curve(plan, **dict(job.options))
    if job.kind == "final":
        return final(plan, folder / "final")
    if job.kind == "parity":
        return _parity(plan)
    if job.kind == "table1":
        return _table(plan)
    return memory(plan) if job.kind == "memory" else rounding(plan)


def _parity(plan: Plan) -> dict[str, Any]:
    found = {}
    for dtype in (torch.float64, torch.float32):
        generator = torch.Generator().manual_seed(0)
        model = report_model(generator=generator, dtype=dtype)
        x, target = (torch.rand(_PARITY_BATCH, 3, 32, 32, dtype=dtype, generator=generator) for _ in range(2))
        rows = follow(model, x, target, device=plan.device)
        found[str(dtype).removeprefix("torch.")] = [asdict(row) for row in rows]
    return found


def _table(plan: Plan) -> dict[str, Any]:
    chosen = Settings.chosen(quick=plan.quick, device=plan.device, epochs=plan.table_epochs)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as `train` computes by default, and `bench run table1` measures
    try:
        return run_table(replace(chosen, samples=plan.table_samples)).to_json()
    finally:
        torch.set_num_threads(before)
