"""The value is the same with and without gradient recording, and evaluation leaves training unharmed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import fresh_gradients
from nn_from_scratch.verify.contracts.findings import Findings, contract, usable_baseline
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["without_recording"]


@contract("without_recording")
def without_recording(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Under `no_grad` and `inference_mode` the value is that of a pass with recording; gradients stay right after."""
    check = "without_recording"
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = Findings(check, subject.slots)
    modes: tuple[tuple[str, AbstractContextManager[object]], ...] = (
        ("no_grad", nullcontext()),  # which is how `Subject.forward` calls
        ("inference_mode", torch.inference_mode()),
    )
    for mode, entered in modes:
        try:
            with entered:
                outputs = {name: y.clone() for name, y in subject.forward(base.values).items()}
        except SubjectError as error:
            findings.wrong(f"under {mode}: {error}")
            continue
        for name, y in base.outputs.items():
            if name not in outputs:
                findings.wrong(f"the output {name} is missing under {mode}", name)
                continue
            when = f"the value under {mode} differs from that of a pass with recording"
            findings.tensor(name, outputs[name].clone(), y, base.output_allowed(name, context.factor), when=when)
        after = fresh_gradients(subject, base.values, base.cotangents)
        findings.gradients(
            after,
            base.gradients,
            lambda name: base.allowed(name, context.factor),
            when=f"after a forward under {mode}",
        )
    return findings.close("no output was compared")
