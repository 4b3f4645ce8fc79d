"""Image sources, noise models and pairs of noisy images, drawn in mini-batches."""

from nn_from_scratch.denoise.data.crops import CROP_SIZE
from nn_from_scratch.denoise.data.minibatches import batches, on_device
from nn_from_scratch.denoise.data.noise import NOISE_NAMES, Gaussian, Impulse, Mixture, Noise, Poisson, parse_noise
from nn_from_scratch.denoise.data.noisy_pairs import PairSet, fingerprint, load_pairs
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
    "fingerprint",
    "load_pairs",
    "on_device",
    "parse_noise",
    "read_picture",
]
