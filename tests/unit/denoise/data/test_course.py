"""The course's own files; the tests write small ones of the same form."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nn_from_scratch.denoise.data import course, load_pairs
from nn_from_scratch.errors import DataError


def images(count: int, *, seed: int) -> Tensor:
    values = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    return values.to(torch.uint8)


class Danger:
    """Its pickle makes a folder when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    torch.save((images(8, seed=0), images(8, seed=1)), tmp_path / course.TRAIN_FILE)
    torch.save([images(4, seed=2), images(4, seed=3)], tmp_path / course.VALIDATION_FILE)
    return tmp_path


@pytest.mark.parametrize("name", ["", course.TRAIN_FILE, course.VALIDATION_FILE])
def test_the_files_are_recognized_by_their_folder_or_name(files: Path, name: str) -> None:
    pairs = load_pairs(files / name, train_size=8, validation_size=4)
    loaded = (pairs.train_noisy_a, pairs.train_noisy_b, pairs.validation_noisy, pairs.validation_clean)
    for tensor, seed in zip(loaded, range(4), strict=True):
        assert tensor.equal(images(8 if seed < 2 else 4, seed=seed))


def test_only_as_many_as_asked_for_are_used(files: Path) -> None:
    pairs = load_pairs(files, train_size=5, validation_size=3)
    assert len(pairs.train_noisy_b) == 5 and len(pairs.validation_clean) == 3


def test_fewer_than_asked_for_are_said(files: Path) -> None:
    notices = load_pairs(files, train_size=9, validation_size=5).notices
    assert "the files hold 8 training pairs, fewer than the 9 asked for" in notices
    assert "the files hold 4 validation images, fewer than the 5 asked for" in notices


def test_noise_that_is_not_applied_is_said(files: Path) -> None:
    pairs = load_pairs(files, noise="poisson:peak=30", train_size=8)
    assert "the files bring their own noise; poisson:peak=30 was not applied" in pairs.notices
    assert pairs.noise == "that of the files"


def test_an_unknown_checksum_is_said(files: Path) -> None:
    digest = hashlib.sha256((files / course.TRAIN_FILE).read_bytes()).hexdigest()
    assert course.load_course(files)[1][0] == (
        f"train_data.pkl is not the course's own file: its SHA-256 is {digest}, the known one is "
        "6a7915d6e2764b862409cf2bcb675b4ec7c4fa4435f1c18eba08441d270228aa"
    )


def test_the_known_checksum_is_said(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256((files / course.VALIDATION_FILE).read_bytes()).hexdigest()
    monkeypatch.setitem(course._SHA256, course.VALIDATION_FILE, digest)
    said = "val_data.pkl is the course's own file: its SHA-256 is the known one"
    assert course.load_course(files)[1][1] == said


@pytest.mark.parametrize("name", [course.TRAIN_FILE, course.VALIDATION_FILE])
def test_a_missing_file_is_refused(files: Path, name: str) -> None:
    (files / name).unlink()
    with pytest.raises(DataError, match=f"data folder '.*' has no '{name}'; the course's data is the two files"):
        load_pairs(files)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_plain_pickle_that_would_run_code_is_refused_and_runs_nothing(files: Path, protocol: int) -> None:
    trace = files / "trace"
    (files / course.TRAIN_FILE).write_bytes(pickle.dumps(Danger(trace), protocol=protocol))
    with pytest.raises(DataError, match="train_data.pkl' was refused: .* loading it could run code; a pair of uint8"):
        load_pairs(files)
    assert not trace.exists()


def test_a_saved_object_that_would_run_code_is_refused_and_runs_nothing(files: Path) -> None:
    trace = files / "trace"
    torch.save((images(8, seed=0), Danger(trace)), files / course.TRAIN_FILE)
    with pytest.raises(DataError, match="train_data.pkl' was refused: .* loading it could run code; a pair of uint8"):
        load_pairs(files)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(files: Path, share: float) -> None:
    content = (files / course.TRAIN_FILE).read_bytes()
    (files / course.TRAIN_FILE).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="train_data.pkl' is truncated, damaged or not written by torch.save"):
        load_pairs(files)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (images(2, seed=0), r"holds a Tensor, but a pair of uint8 tensors \(N, 3, 32, 32\) is expected"),
        ((images(2, seed=0),), "holds a tuple of 1, but a pair"),
        ([images(2, seed=0)] * 3, "holds a list of 3, but a pair"),
        ({"a": images(2, seed=0)}, "holds a dict, but a pair"),
        ((images(2, seed=0), "b"), "holds a pair with a str in it, but a pair"),
        (
            (images(2, seed=0), images(2, seed=0).to_sparse()),
            "holds a pair with a tensor of layout torch.sparse_coo on cpu in it",
        ),
        ((images(2, seed=0), images(2, seed=0).float()), "holds a tensor of dtype torch.float32, but a pair"),
        ((images(2, seed=0)[0], images(2, seed=0)[0]), r"holds a tensor of shape \(3, 32, 32\), but a pair"),
        ((images(2, seed=0)[:, :1], images(2, seed=0)), r"holds a tensor of shape \(2, 1, 32, 32\), but a pair"),
        ((images(2, seed=0)[:, :, 1:], images(2, seed=0)), r"holds a tensor of shape \(2, 3, 31, 32\), but a pair"),
        ((images(0, seed=0), images(0, seed=0)), r"holds a tensor of shape \(0, 3, 32, 32\), but .*, N > 0"),
        (
            (images(2, seed=0), images(3, seed=0)),
            "holds a pair of 2 and 3 images, but equally many of both are expected",
        ),
    ],
)
def test_another_form_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "pair.pkl")
    with pytest.raises(DataError, match=message):
        course.load_pair_file(tmp_path / "pair.pkl")
