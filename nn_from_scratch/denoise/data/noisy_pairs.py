"""The data of one training: pairs of noisy images to learn from, and noisy and clean images to measure with.

Noise2Noise: input and target of the training are two independent corruptions of one picture. The clean training crops
exist only while they are corrupted, a few hundred at a time; nothing that is returned holds or reaches them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from nn_from_scratch.denoise.data.course import find_course_folder, load_course
from nn_from_scratch.denoise.data.crops import CROP_SIZE, draw_crops, random_stream
from nn_from_scratch.denoise.data.folder import PictureLog, split_folder, too_few
from nn_from_scratch.denoise.data.noise import Gaussian, Noise, parse_noise
from nn_from_scratch.denoise.data.pictures import VALIDATION_PHOTOGRAPHS, photograph_paths, read_picture
from nn_from_scratch.denoise.settings import expect_integer
from nn_from_scratch.errors import DtypeError, ShapeError


@dataclass(frozen=True, eq=False)
class PairSet:
    """Training pairs and validation images, all uint8, values 0 to 255.

    Attributes:
        train_noisy_a: one corruption of each training picture, (N, 3, H, W).
        train_noisy_b: another, independent corruption of the same pictures, (N, 3, H, W).
        validation_noisy: corrupted held-out pictures, (M, 3, H, W).
        validation_clean: the same without noise, (M, 3, H, W).
        source: origin of the pictures, in a few words.
        noise: the noise model's spelling, or a remark that the files brought their noise along.
        notices: for the user: pictures skipped or converted, checksums.

    Raises:
        DtypeError: a tensor is not uint8.
        ShapeError: a tensor has another shape, or holds no image.
    """

    train_noisy_a: Tensor = field(repr=False)
    train_noisy_b: Tensor = field(repr=False)
    validation_noisy: Tensor = field(repr=False)
    validation_clean: Tensor = field(repr=False)
    source: str
    noise: str
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for one, other in (("train_noisy_a", "train_noisy_b"), ("validation_noisy", "validation_clean")):
            for name in (one, other):
                tensor: Tensor = getattr(self, name)
                if tensor.dtype != torch.uint8:
                    raise DtypeError(f"{name} has dtype {tensor.dtype}, but torch.uint8 is expected, values 0 to 255")
                if tensor.dim() != 4 or tensor.shape[1] != 3 or tensor.numel() == 0:
                    raise ShapeError(
                        f"{name} has shape {tuple(tensor.shape)}, but (N, 3, H, W), not empty, is expected"
                    )
            shapes = tuple(getattr(self, one).shape), tuple(getattr(self, other).shape)
            if shapes[0] != shapes[1]:
                raise ShapeError(f"{one} has shape {shapes[0]} and {other} {shapes[1]}, but equal shapes are expected")


def fingerprint(pairs: PairSet) -> str:
    """SHA-256 (hexadecimal) of all pixels: equal for equal data only."""
    sha = hashlib.sha256()
    for tensor in (pairs.train_noisy_a, pairs.train_noisy_b, pairs.validation_noisy, pairs.validation_clean):
        sha.update(repr(tuple(tensor.shape)).encode())
        sha.update(tensor.contiguous().numpy().data)
    return sha.hexdigest()


def load_pairs(
    data: Path | str | None = None,
    *,
    noise: Noise | str | None = None,
    train_size: int = 50_000,
    validation_size: int = 1_000,
    seed: int = 0,
) -> PairSet:
    """Load or draw the data of one training.

    Args:
        data: None for the built-in photographs; else a folder of pictures, or the folder of the course's
            `train_data.pkl` and `val_data.pkl`, or one of these files.
        noise: how pictures are corrupted, or the spelling of it; by default gaussian with a standard deviation of 25.
            The course's files bring their noise along.
        train_size: number of training pairs, N. Of the course's files at most their number is used.
        validation_size: number of validation images, M; likewise.
        seed: decides crops, noise and, for a folder, which pictures are held out. The validation images do not depend
            on train_size, and those of the built-in photographs not on the seed either, so that the results of
            different seeds can be compared.

    Returns:
        The pairs; for pictures of 32x32 crops.

    Raises:
        ArgumentError: a size or the seed makes no sense, or the spelling of the noise.
        DataError: the pictures or files are missing or unusable; the message says which and why.
    """
    expect_integer(train_size, name="train_size", least=1)
    expect_integer(validation_size, name="validation_size", least=1)
    expect_integer(seed, name="seed", least=0)
    model = parse_noise(noise) if isinstance(noise, str) else Gaussian() if noise is None else noise
    if data is None:
        return _from_photographs(model, train_size, validation_size, seed)
    course = find_course_folder(Path(data))
    if course is not None:
        return _from_course(course, model, train_size, validation_size)
    return _from_folder(Path(data), model, train_size, validation_size, seed)


def _from_photographs(noise: Noise, train_size: int, validation_size: int, seed: int) -> PairSet:
    training, validation = photograph_paths()

    def read(path: Path) -> Tensor:
        return read_picture(path)[0]

    held_out = ", ".join(Path(name).stem for name in VALIDATION_PHOTOGRAPHS)
    return PairSet(
        *_noisy_pairs(training, train_size, noise, seed, read),
        *_noisy_and_clean(validation, validation_size, noise, 0, read),
        source=f"photographs of scikit-image, held out: {held_out}",
        noise=str(noise),
    )


def _from_folder(folder: Path, noise: Noise, train_size: int, validation_size: int, seed: int) -> PairSet:
    log = PictureLog(folder)
    training, validation = split_folder(folder, log, seed=seed, validation_at_most=validation_size)
    a, b = _noisy_pairs(training, train_size, noise, seed, log.read)
    if len(a) < train_size:
        raise too_few(log, readable=len(validation))
    noisy, clean = _noisy_and_clean(validation, validation_size, noise, seed, log.read)
    source = f"pictures in {folder}, {len(validation)} of {len(training) + len(validation)} held out"
    return PairSet(a, b, noisy, clean, source=source, noise=str(noise), notices=log.notices())


def _from_course(folder: Path, noise: Noise, train_size: int, validation_size: int) -> PairSet:
    (a, b, noisy, clean), notices = load_course(folder)
    notices.append(f"the files bring their own noise; {noise} was not applied")
    for name, held, asked in (
        ("training pairs", len(a), train_size),
        ("validation images", len(noisy), validation_size),
    ):
        if held < asked:
            notices.append(f"the files hold {held} {name}, fewer than the {asked} asked for")
    return PairSet(
        a[:train_size],
        b[:train_size],
        noisy[:validation_size],
        clean[:validation_size],
        source=f"the course's files in {folder}",
        noise="that of the files",
        notices=tuple(notices),
    )


def _noisy_pairs(
    paths: Sequence[Path], count: int, noise: Noise, seed: int, read: Callable[[Path], Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Corrupt each crop twice, independently; fewer than `count` come back if no picture can be read."""
    a = torch.empty((count, 3, CROP_SIZE, CROP_SIZE), dtype=torch.uint8)
    b = torch.empty_like(a)
    noise_a, noise_b = random_stream(seed, "training noise", "a"), random_stream(seed, "training noise", "b")
    # Crops come picture by picture; in a random order the first n of them are a fair sample, for every n.
    order = torch.randperm(count, generator=random_stream(seed, "training order"))
    done = 0
    for crops in draw_crops(paths, count, random_stream(seed, "training crops"), read=read, vary=True):
        rows = order[done : done + len(crops)]
        a[rows] = noise.corrupt(crops, noise_a)
        b[rows] = noise.corrupt(crops, noise_b)
        done += len(crops)
    return (a, b) if done == count else (a[:done], b[:done])


def _noisy_and_clean(
    paths: Sequence[Path], count: int, noise: Noise, seed: int, read: Callable[[Path], Tensor | None]
) -> tuple[Tensor, Tensor]:
    pieces = draw_crops(paths, count, random_stream(seed, "validation crops"), read=read, vary=False)
    generator = random_stream(seed, "validation noise")
    pairs = [(noise.corrupt(crops, generator), crops) for crops in pieces]
    return torch.cat([noisy for noisy, _ in pairs]), torch.cat([clean for _, clean in pairs])
