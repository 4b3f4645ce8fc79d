"""Where images come from, how they are corrupted and how training pairs are drawn."""

from nn_from_scratch.denoise.data.batches import batches, on_device
from nn_from_scratch.denoise.data.crops import CROP_SIZE
from nn_from_scratch.denoise.data.noise import NOISE_NAMES, Gaussian, Impulse, Mixture, Noise, Poisson, parse_noise
from nn_from_scratch.denoise.data.pairs import PairSet, load_pairs
from nn_from_scratch.denoise.data.pictures import read_picture

__all__ = [
    "CROP_SIZE",
    "NOISE_NAMES",
    "Gaussian",
    "Impulse",
    "Mixture",
    "Noise",
    "PairSet",
    "Poisson",
    "batches",
    "load_pairs",
    "on_device",
    "parse_noise",
    "read_picture",
]
