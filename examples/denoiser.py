"""The denoiser in a few lines: train it on noisy pairs alone, save it, load it, denoise a picture.

    python examples/denoiser.py                      # a minute; writes noisy.png and denoised.png here
    python examples/denoiser.py --pairs 640 --out somewhere

No clean image takes part in the training: input and target are two independent corruptions of the same crop.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from nn_from_scratch import Denoiser
from nn_from_scratch.denoise.data import Gaussian, load_pairs, read_picture
from nn_from_scratch.denoise.data.pictures import photograph_paths
from nn_from_scratch.denoise.scores import psnr
from nn_from_scratch.denoise.settings import TrainingProgress


def main(arguments: Sequence[str] = ()) -> tuple[float, float]:
    """Train, denoise one picture, and give its PSNR before and after, in dB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000, help="noisy pairs to train on")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the pictures and the model")
    options = parser.parse_args(arguments)

    pairs = load_pairs(train_size=options.pairs, validation_size=100)

    def report(progress: TrainingProgress) -> None:
        last = progress.history[-1]
        print(f"epoch {last.epoch}: loss {last.loss:.5f}, {last.psnr:.2f} dB on crops of pictures it never saw")

    denoiser = Denoiser(seed=0)
    validation = (pairs.validation_noisy, pairs.validation_clean)
    denoiser.fit(
        pairs.train_noisy_a, pairs.train_noisy_b, validation=validation, epochs=options.epochs, on_epoch=report
    )
    denoiser.save(options.out / "denoiser.safetensors")

    # One whole photograph that was held out, of any size: the network is laid over it in overlapping tiles.
    _, held_out = photograph_paths()
    clean = read_picture(held_out[0])[0][None, :, :256, :256]  # (1, 3, H, W)
    noisy = Gaussian(25).corrupt(clean, torch.Generator().manual_seed(0))
    denoised = Denoiser.load(options.out / "denoiser.safetensors").predict(noisy)
    for name, image in (("noisy", noisy), ("denoised", denoised)):
        Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(options.out / f"{name}.png")
    before, after = psnr(noisy, clean), psnr(denoised, clean)
    print(f"{held_out[0].stem}: {before:.2f} dB noisy, {after:.2f} dB denoised")
    return before, after


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
