"""A plan of a few hundred samples, and a Table I that nobody has to wait for."""

from __future__ import annotations

from typing import Any

from nn_from_scratch.reproduction import Plan

TINY = Plan(
    train_size=96,
    validation_size=16,
    epochs=2,
    seeds=2,
    final_epochs=2,
    rounding_steps=4,
    memory_batch=4,
    compared=4,
    table_samples=32,
    table_epochs=1,
    quick=True,
)
TABLE: dict[str, Any] = {
    "title": "Table I",
    "timings": [
        {"row": row, "optimizer": name, "mean": 1.0, "deviation": 0.1, "ratio": ratio, "void": ""}
        for name in ("SGD", "SGD with momentum", "Adam")
        for row, ratio in (("unfold", [2.0, 1.9, 2.1]), ("auto", [0.9, 0.8, 1.0]), ("eager", [1.0, 1.0, 1.0]))
    ],
    "report": {"SGD": [[3.846, 0.187], [0.844, 0.070]]},
}
