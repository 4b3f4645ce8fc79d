"""The report's claims, each compared with what was measured here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nn_from_scratch.reproduction.parts import OPTIMIZERS, OURS, THEIRS, Plan

HOLDS, HOLDS_NOT, UNTESTABLE = "holds", "does not hold", "cannot be tested here"
#: For claims of which a training of a few epochs with few pairs says nothing.
TOO_QUICK = "not tested by a quick run"

_PUBLISHED_PSNR = 23.74
#: Trainings differ by the seed; results that differ by no more than this, in dB, count as the same.
_SAME_PSNR = 0.3
#: "The order of magnitude is around 1e-18": within a factor of a hundred, on the side of larger errors.
_PUBLISHED_ERROR = 1e-18
_SAME_ORDER = 100.0
#: Ratio of seconds from which one is much faster than the other.
_MUCH_FASTER = 1.5
#: Relative difference of weights that rounding in float64 explains after some tens of steps.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the report.

    Attributes:
        verdict: holds, does not hold, cannot be tested here, or is not tested by a quick run.
        numbers: what was measured, or why it was not.
        parts: kinds of jobs that decide it.
    """

    section: str
    claim: str
    verdict: str
    numbers: str
    parts: tuple[str, ...] = ()


def claims_of(plan: Plan, parts: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims that these parts decide, in the report's order."""
    judges: tuple[tuple[tuple[str, ...], Callable[[], tuple[Claim, ...]]], ...] = (
        (("memory",), lambda: (_memory(parts["memory"]),)),
        (("parity",), lambda: _parity(parts["parity"])),
        (("curve", "rounding"), lambda: (_convergence(plan, parts),)),
        (("table1",), lambda: _speed(plan, parts["table1"])),
        (("curve",), lambda: (_fastest(plan, parts),)),
        (("final",), lambda: (_quality(plan, parts["final"]),)),
    )
    missing = {job.kind for job in plan.jobs if job.name not in parts}
    return tuple(
        replace(claim, parts=kinds) for kinds, judge in judges if missing.isdisjoint(kinds) for claim in judge()
    )


def curves_of(parts: Mapping[str, Any]) -> dict[tuple[str, str], list[list[float]]]:
    """(optimizer, side) to the curves of all seeds; PSNR in dB after each epoch."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for name in sorted(parts):
        if name.startswith("curve-"):
            part = parts[name]
            found.setdefault((part["optimizer"], part["side"]), []).append(part["psnr"])
    return found


def _by_epoch(curves: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    return list(zip(*curves, strict=True))


def _coincide(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether the means over the seeds differ by no more than the seeds do."""
    spread = max(max(values) - min(values) for values in (ours, theirs))
    return abs(statistics.fmean(ours) - statistics.fmean(theirs)) <= spread


def _verdict(holds: bool) -> str:
    return HOLDS if holds else HOLDS_NOT


def _of_training(plan: Plan, holds: bool) -> str:
    """The verdict on a claim about how training goes."""
    return TOO_QUICK if plan.quick else _verdict(holds)


def _memory(part: Mapping[str, Any]) -> Claim:
    ours, theirs = part[OURS], part[THEIRS]
    mega = 1e-6
    return Claim(
        section="II.D",
        claim="The graph is not consumed during the backward pass, leading to a potentially larger memory footprint.",
        verdict=_verdict(ours["backward"] > theirs["backward"]),
        numbers=f"After the backward pass of {part['batch']} pairs ours keeps {ours['backward'] * mega:.1f} MB, torch "
        f"{theirs['backward'] * mega:.1f} MB; after the forward pass {ours['forward'] * mega:.1f} and "
        f"{theirs['forward'] * mega:.1f} MB; zero_grad leaves {ours['cleared'] * mega:.1f} MB of ours.",
    )


def _parity(part: Mapping[str, Any]) -> tuple[Claim, ...]:
    rows = part["float64"]
    propagated = [row for row in rows if row["quantity"] == "propagated"]
    gradients = [row for row in rows if row["quantity"] != "value"]
    first = propagated[-1]["error"]  # rows are in the order of the layers, and the loss is the last of them
    worst = max(row["error"] for row in gradients)
    chain = max(row["error"] for row in propagated)
    explained = all(row["error"] <= row["allowed"] for kind in part.values() for row in kind)
    return (
        Claim(
            section="III.A",
            claim="The first gradient in the chain (last layer) is exactly the same as PyTorch's.",
            verdict=_verdict(first == 0),
            numbers=f"Its largest difference in float64 is {first:.2g}; on torch's own prediction it is "
            f"{propagated[-1]['own']:.2g}.",
        ),
        Claim(
            section="III.A",
            claim="Gradients differ slightly from PyTorch's from module to module, by about 1e-18.",
            verdict=_verdict(0 < chain <= _SAME_ORDER * _PUBLISHED_ERROR),
            numbers=f"In float64 propagated gradients differ by at most {chain:.1e}, those of parameters included "
            f"{worst:.1e}; every difference, in float32 too, is {'' if explained else 'NOT '}within what rounding "
            "explains.",
        ),
    )


def _convergence(plan: Plan, parts: Mapping[str, Any]) -> Claim:
    curves = curves_of(parts)
    lines, coincide = [], True
    for name in OPTIMIZERS:
        ours, theirs = ([curve[-1] for curve in curves[name, side]] for side in (OURS, THEIRS))
        gap = abs(statistics.fmean(ours) - statistics.fmean(theirs))
        spread = max(max(ours) - min(ours), max(theirs) - min(theirs))
        coincide &= all(
            _coincide(*epoch) for epoch in zip(*(_by_epoch(curves[name, s]) for s in (OURS, THEIRS)), strict=True)
        )
        lines.append(f"{name}: after the last epoch means differ by {gap:.3f} dB, seeds spread over {spread:.3f} dB")
    within = "" if coincide else " do NOT"
    rounding = parts["rounding"]
    worst = max(row["weights"] for row in rounding["optimizers"].values())
    return Claim(
        section="III.A",
        claim="These small errors do not hurt the convergence rate as compared to PyTorch.",
        verdict=_of_training(plan, coincide and worst <= _ROUNDING),
        numbers=f"{'; '.join(lines)}; they{within} coincide within that spread after every epoch. In float64, "
        f"after {rounding['steps']} steps from the same weights, weights differ by {worst:.1e} of the largest.",
    )


def _speed(plan: Plan, part: Mapping[str, Any]) -> tuple[Claim, ...]:
    claim = "PyTorch is much faster than ours (Table I: 4.6, 5.1 and 4.7 times)."
    published = Claim(
        section="III.B",
        claim="An epoch takes 3.846, 3.932 and 3.986 s of ours and 0.844, 0.770 and 0.856 s of PyTorch's.",
        verdict=UNTESTABLE,
        numbers=f"Seconds of a laptop's RTX 3060; here it is {plan.device}. The ratios can be compared.",
    )
    ratios = {(timing["row"], timing["optimizer"]): timing["ratio"][0] for timing in part["timings"] if timing["ratio"]}
    found = {row: [ratio for (name, _), ratio in ratios.items() if name == row] for row in ("unfold", "auto")}
    if not found["auto"]:
        reason = "No row of ours could be measured beside PyTorch's."
        return (Claim(section="III.B", claim=claim, verdict=UNTESTABLE, numbers=reason), published)
    listed = "; ".join(
        f"{name}: {', '.join(f'{ratio:.2f}' for ratio in found[row])}"
        for row, name in (("unfold", "the report's algorithm"), ("auto", "our default"))
        if found[row]
    )
    return (
        Claim(
            section="III.B",
            claim=claim,
            verdict=_verdict(min(found["auto"]) > _MUCH_FASTER),
            numbers=f"Seconds of ours over seconds of PyTorch's, for SGD, SGD with momentum and Adam; {listed}.",
        ),
        published,
    )


def _fastest(plan: Plan, parts: Mapping[str, Any]) -> Claim:
    curves = curves_of(parts)
    last = {name: [curve[-1] for curve in curves[name, OURS]] for name in OPTIMIZERS}
    means = {name: statistics.fmean(values) for name, values in last.items()}
    best = min(last["SGD with momentum"])
    others = max(max(values) for name, values in last.items() if name != "SGD with momentum")
    return Claim(
        section="III.D",
        claim="SGD with momentum greatly outperforms both Adam and vanilla SGD.",
        verdict=_of_training(plan, best > others),
        numbers="; ".join(f"{name}: {mean:.2f} dB" for name, mean in means.items())
        + f" after epoch {plan.epochs} with {plan.train_size} pairs, mean of {len(last['SGD'])} seeds. It holds if the "
        "worst seed with momentum beats the best seed of the others.",
    )


def _quality(plan: Plan, part: Mapping[str, Any]) -> Claim:
    numbers = f"{part['psnr']:.2f} dB after {len(part['history'])} epochs, noisy images {part['noisy_psnr']:.2f} dB"
    claim = f"The final model reaches {_PUBLISHED_PSNR} dB on the validation set."
    if not part["data"]["course"]:
        reason = f"on other data: {part['data']['source']}"
        return Claim(section="IV", claim=claim, verdict=UNTESTABLE, numbers=f"{numbers}, {reason}.")
    verdict = _of_training(plan, abs(part["psnr"] - _PUBLISHED_PSNR) <= _SAME_PSNR)
    return Claim(section="IV", claim=claim, verdict=verdict, numbers=f"{numbers}, on the course's own files.")
