"""The page of a reproduction: the claims first, then each table and figure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nn_from_scratch.report.document import (
    Block,
    Cell,
    CellValue,
    Code,
    Commands,
    Conclusion,
    Document,
    Section,
    Table,
    Text,
)
from nn_from_scratch.report.figures import drawn
from nn_from_scratch.report.results_file import environment
from nn_from_scratch.reproduction.claims import HOLDS, HOLDS_NOT, TOO_QUICK, UNTESTABLE, curves_of
from nn_from_scratch.reproduction.drawings import (
    draw_curves,
    draw_final,
    draw_memory,
    draw_parity,
    draw_photographs,
    draw_table,
)
from nn_from_scratch.reproduction.parts import BATCH, OPTIMIZERS, OURS, THEIRS, Plan


def page(plan: Plan, results: Mapping[str, Any], *, commands: Sequence[str]) -> Document:
    """The document of a reproduction's results."""
    parts = results["parts"]
    return Document(
        title="The report reproduced" + (" (quick: fewer samples, epochs and seeds)" if plan.quick else ""),
        verdict=_verdict(results["claims"]),
        sections=(
            _claims(plan, results),
            _parity(parts["parity"], *_again(plan, "parity")),
            _table(parts["table1"], *_again(plan, "table1")),
            _curves(plan, parts, *_again(plan, "curve", "rounding")),
            _final(parts["final"], *_again(plan, "final")),
            _memory(parts["memory"], *_again(plan, "memory")),
        ),
        environment=environment(),
        commands=tuple(commands),
    )


def _verdict(claims: Sequence[Mapping[str, str]]) -> Conclusion:
    counts = Counter(claim["verdict"] for claim in claims)
    names = {HOLDS: "hold", HOLDS_NOT: "do not hold", UNTESTABLE: UNTESTABLE, TOO_QUICK: TOO_QUICK}
    listed = ", ".join(f"{counts[verdict]} {name}" for verdict, name in names.items() if counts[verdict])
    # A claim that does not hold is a finding about the report, not a failure of this package.
    return Conclusion("information", f"{len(claims)} claims of the report: {listed}.")


def _again(plan: Plan, *kinds: str) -> tuple[Block, ...]:
    """The command that does a part of the report again, alone."""
    line = plan.command(only=kinds)
    return (Text("This part alone:"), Commands((line,))) if line else ()


def _claims(plan: Plan, results: Mapping[str, Any]) -> Section:
    data = results["data"]
    origin = "The course's own files were used"
    if not data["course"]:
        origin = (
            "The course's own files, which are not public, were not at hand (a folder with train_data.pkl and "
            "val_data.pkl is given with --data); other pictures were used"
        )
    rows = tuple(
        (c["section"], c["verdict"], c["claim"], c["numbers"], Code(plan.command(only=c["parts"])))
        for c in results["claims"]
    )
    return Section(
        "Claims",
        (
            Text(f"{origin}: {data['source']}; noise: {data['noise']}. Noisy images: {data['noisy_psnr']:.2f} dB."),
            *(Text(f"{notice}.") for notice in data["notices"]),
            *([Text(_quick(plan))] if plan.quick else []),
            Table(
                "Each claim of the report, compared with what was measured here.",
                ("section", "verdict", "claim", "measured", "reproduce"),
                rows,
            ),
        ),
    )


def _quick(plan: Plan) -> str:
    whole = Plan.chosen(quick=False, device=plan.device, data=plan.data)
    return (
        f"This was a quick run, of {plan.epochs} epochs with {plan.train_size} pairs instead of {whole.epochs} with "
        f"{whole.train_size}. It shows that every part works and what it looks like; how training converges, it does "
        f"not tell. The whole: {whole.command()}"
    )


def _parity(part: Mapping[str, Any], *again: Block) -> Section:
    keys = ("layer", "quantity", "largest", "error", "own", "ulps_of_largest", "allowed")
    rows = tuple((dtype, *(row[key] for key in keys)) for dtype, found in part.items() for row in found)
    header = ("dtype", "layer", "quantity", "largest", "error", "own error", "ulps of largest", "allowed")
    return Section(
        "III.A: the error from layer to layer",
        (
            drawn(
                lambda width: draw_parity(part, width),
                caption="Largest absolute difference of our gradient and torch's, as it propagates from the loss "
                "(right) to the first layer (left). See that in both precisions it keeps the size of rounding all the "
                "way; the table says how much rounding explains.",
                alt="Largest difference of the gradient that each layer propagates, in float64 and float32.",
            ),
            Table(
                "One line for each value and gradient, ours beside torch's. Error: largest absolute difference; own: "
                "what arises in this layer alone; allowed: what rounding explains.",
                header,
                rows,
            ),
            *again,
        ),
    )


def _table(part: Mapping[str, Any], *again: Block) -> Section:
    title = "Table I: seconds of an epoch"
    rows: list[tuple[CellValue, ...]] = []
    for timing in part["timings"]:
        ratio = timing["ratio"] or [None, None, None]
        rows.append((timing["optimizer"], timing["row"], timing["mean"], timing["deviation"], *ratio, timing["void"]))
    for optimizer, (ours, theirs) in part["report"].items():
        rows.append((optimizer, "the report: ours", *ours, ours[0] / theirs[0], None, None, "on an RTX 3060 laptop"))
        rows.append((optimizer, "the report: PyTorch", *theirs, 1.0, None, None, "on an RTX 3060 laptop"))
    header = ("optimizer", "row", "mean in s", "deviation in s", "ratio to eager", "from", "to", "remark")
    return Section(
        title,
        (
            Text(f"{part['title']}."),
            drawn(
                lambda width: draw_table(part, width),
                caption="Seconds of an epoch over those of eager PyTorch (the line at 1), beside the published ratio; "
                "bars are intervals, the numbers on the right are the ratios for the optimizers in the order of the "
                "legend. See which rows are left of the line, and so faster than PyTorch, and how far off the report's "
                "own code was.",
                alt="Dots: time of each row relative to eager PyTorch, for three optimizers.",
            ),
            Table(
                "Measured here, and as published; the interval of the ratio has a confidence of 95 %.",
                header,
                tuple(rows),
            ),
            *again,
        ),
    )


def _curves(plan: Plan, parts: Mapping[str, Any], *again: Block) -> Section:
    curves = curves_of(parts)
    rows: list[tuple[CellValue, ...]] = []
    for name in OPTIMIZERS:
        for epoch in range(plan.epochs):
            values = [[curve[epoch] for curve in curves[name, side]] for side in (OURS, THEIRS)]
            ours, theirs = map(statistics.fmean, values)
            our_spread, their_spread = (max(found) - min(found) for found in values)
            numbers = map(_decibels, (ours, our_spread, theirs, their_spread))
            rows.append((name, epoch + 1, *numbers, _decibels(ours - theirs, places=3)))
    rounding = parts["rounding"]
    return Section(
        "Fig. 2: validation PSNR per epoch",
        (
            drawn(
                lambda width: draw_curves(curves, width),
                caption=f"Mean (line) and range (band) of the PSNR of {plan.validation_size} validation images over "
                f"{plan.seeds} seeds, batch {BATCH}, {plan.train_size} pairs; markers: the same training by torch.nn "
                "with the same weights and batches. See which optimizer is best, and that marker and line differ less "
                "than the seeds do.",
                alt="Validation PSNR in dB over epochs for SGD, SGD with momentum and Adam, ours and torch.nn.",
            ),
            Table(
                "PSNR in dB: mean of the seeds, and the difference of the best and the worst seed.",
                ("optimizer", "epoch", "ours", "spread", "torch.nn", "its spread", "difference"),
                tuple(rows),
            ),
            Table(
                f"In float64, after {rounding['steps']} steps from the same weights with the same batches: the largest "
                "difference of two weights and how far weights moved, relative to the largest weight, and the relative "
                "difference of the losses.",
                ("optimizer", "weights", "moved", "loss"),
                tuple(
                    (name, row["weights"], row["moved"], row["loss"]) for name, row in rounding["optimizers"].items()
                ),
            ),
            *again,
        ),
    )


def _final(part: Mapping[str, Any], *again: Block) -> Section:
    history = part["history"]
    return Section(
        "Fig. 3 and IV: the final model",
        (
            drawn(
                lambda width: draw_final(history, part["noisy_psnr"], width),
                caption=f"Training loss and validation PSNR over {len(history)} epochs of SGD, learning rate 0.5, "
                "momentum 0.9. See the loss fall towards the variance of the noise, which stands in the targets, and "
                "the PSNR level off above that of the noisy images (dashed).",
                alt="Two curves over the epochs: mean squared error, and PSNR in dB.",
            ),
            drawn(
                lambda width: draw_photographs(part["photographs"], width),
                caption="Validation images of 32 x 32 pixels and their PSNR in dB. See that edges survive and the "
                "noise of flat areas goes; non-local means, a classical method, was told the strength of the noise.",
                alt="Rows of small photographs: noisy, non-local means, ours, clean.",
            ),
            Table(
                f"{part['compared']} validation images; PSNR in dB. The report: 23.74 dB on the course's data.",
                ("method", "PSNR", "PSNR of all pixels", "SSIM"),
                tuple(
                    (s["name"], _decibels(s["psnr"]), _decibels(s["pooled_psnr"]), s["ssim"]) for s in part["scores"]
                ),
            ),
            Table(
                "Each epoch: mean squared error of pixels in [0, 1], PSNR in dB, time in s.",
                ("epoch", "loss", "PSNR", "time in s"),
                tuple((e["epoch"], e["loss"], _decibels(e["psnr"]), e["seconds"]) for e in history),
            ),
            *again,
        ),
    )


def _memory(part: Mapping[str, Any], *again: Block) -> Section:
    names = {
        "forward": "after the forward pass",
        "backward": "after its backward pass",
        "two": "two forward passes, the backward pass of one",
        "cleared": "after zero_grad",
    }
    rows = tuple((name, part[OURS][key] * 1e-6, part[THEIRS][key] * 1e-6) for key, name in names.items())
    return Section(
        "II.D: what keeping records costs",
        (
            drawn(
                lambda width: draw_memory(part, names, width),
                caption=f"Memory kept for the backward pass of a step of {part['batch']} pairs, in MB. See that ours "
                "keeps its records until zero_grad, where torch's graph is consumed by the backward pass.",
                alt="Bars: megabytes kept by ours and by torch at four points of a step.",
            ),
            Table(
                "MB (millions of bytes) of tensors that are kept; weights, gradients, input and target left out.",
                ("point of a step", "ours", "torch.nn"),
                rows,
            ),
            *again,
        ),
    )


def _decibels(value: float, *, places: int = 2) -> Cell:
    return Cell(f"{value:.{places}f}", value)
