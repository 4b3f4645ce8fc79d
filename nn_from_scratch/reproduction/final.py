"""Figure 3 and section IV: the final model, taken up where a killed process left it."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.denoise.denoiser import CHECKPOINT_NAME
from nn_from_scratch.denoise.model import apply_to_images, report_model
from nn_from_scratch.denoise.runs import RunFolder, find_run, new_run
from nn_from_scratch.denoise.scores import compare, noise_level, non_local_means, psnr, psnr_of_each
from nn_from_scratch.denoise.settings import RunSettings, TrainingProgress
from nn_from_scratch.denoise.training import make_optimizer, train
from nn_from_scratch.reproduction.parts import BATCH, OPTIMIZERS, Plan
from nn_from_scratch.reproduction.training_curves import pairs_of

_SHOWN = 6


def final(plan: Plan, folder: Path) -> dict[str, Any]:
    """Train the final model in this folder, with a checkpoint after every epoch, and compare it.

    Returns:
        "history" (an entry for each epoch), "scores", "compared" (images), "noisy_psnr" and "psnr" (of all validation
        images, in dB), "data" and "photographs" (for each kind its "name", a "png" in base64 and the "psnr" of each).
    """
    pairs = pairs_of(plan)
    settings = RunSettings(
        epochs=plan.final_epochs,
        batch_size=BATCH,
        train_size=plan.train_size,
        validation_size=plan.validation_size,
        device=plan.device,
        data=plan.data,
        **OPTIMIZERS["SGD with momentum"],
    )
    model = report_model(generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    progress = TrainingProgress()
    run: RunFolder
    if (folder / CHECKPOINT_NAME).exists():
        run = find_run(folder)
        checkpoint, progress, _ = run.load(model)
        model.to(plan.device)
        optimizer = make_optimizer(model, settings)
        checkpoint.restore(model, optimizer)
    else:
        run = new_run(folder)
        model.to(plan.device)
        optimizer = make_optimizer(model, settings)
    information = {"data": pairs.source, "noise": pairs.noise}

    def save(reached: TrainingProgress) -> None:
        run.save(model, optimizer, reached, settings=settings, information=information)

    progress = train(model, optimizer, pairs, settings=settings, progress=progress, on_epoch=save)
    noisy, clean = pairs.validation_noisy, pairs.validation_clean
    denoised = apply_to_images(model, noisy)
    some = slice(0, plan.compared)
    scores = compare(noisy[some], denoised[some], clean[some])
    return {
        "history": [asdict(result) for result in progress.history],
        "scores": [asdict(score) for score in scores],
        "compared": len(clean[some]),
        "psnr": psnr(denoised, clean),
        "noisy_psnr": psnr(noisy, clean),
        "data": {
            "source": pairs.source,
            "noise": pairs.noise,
            "notices": list(pairs.notices),
            # Its loader says so of each of the two files.
            "course": sum("is the course's own file" in notice for notice in pairs.notices) == 2,
        },
        "photographs": _photographs(noisy, denoised, clean),
    }


def _photographs(noisy: Tensor, denoised: Tensor, clean: Tensor) -> list[dict[str, Any]]:
    """Some images of each kind, side by side as a PNG file, and the PSNR of each in dB."""
    chosen = torch.linspace(0, len(clean) - 1, min(_SHOWN, len(clean))).round().long()
    rows = (
        ("noisy", noisy[chosen]),
        ("non-local means", non_local_means(noisy[chosen], sigma=noise_level(noisy, clean))),
        ("ours", denoised[chosen]),
        ("clean", clean[chosen]),
    )
    return [
        {"name": name, "png": _strip(images), "psnr": psnr_of_each(images, clean[chosen]).tolist()}
        for name, images in rows
    ]


def _strip(images: Tensor) -> str:
    """Images (N, C, H, W) beside each other as a PNG file (H, N x W), in base64."""
    from PIL import Image

    pixels = images.permute(2, 0, 3, 1).flatten(1, 2)  # (H, N x W, C)
    buffer = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
