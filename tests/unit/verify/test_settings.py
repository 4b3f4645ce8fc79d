"""Settings of the whole process that a subject changes are put back, and told."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify import check
from nn_from_scratch.verify.settings import Settings

X = torch.linspace(0.5, 2.0, 3, dtype=torch.float64)


def state() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
        np.geterr(),
        Path.cwd(),
        list(warnings.filters),
        dict(os.environ),
    )


CHANGES: dict[str, Callable[[], object]] = {
    "the default dtype": lambda: torch.set_default_dtype(torch.float64),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "the precision of float32 products": lambda: torch.set_float32_matmul_precision("medium"),
    "the working folder": lambda: os.chdir("/"),
    "the filters of warnings": lambda: warnings.simplefilter("ignore", ImportWarning),
    "environment variables": lambda: os.environ.update(NNFS_TEST_OF_SETTINGS="1"),
}
OF_THE_THREAD: dict[str, Callable[[], object]] = {
    "the default device": lambda: torch.set_default_device("meta"),
    "the gradient mode": lambda: torch.set_grad_enabled(False),
    "NumPy's handling of errors": lambda: np.seterr(all="raise"),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", CHANGES)
def test_what_a_subject_changes_is_put_back_and_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(x: Tensor) -> Tensor:
        y = x.sin()
        CHANGES[name]()
        return y

    monkeypatch.chdir(tmp_path)
    check(changing, X, checks="gradient")  # torch imports what it needs for it
    before = state()
    report = check(changing, X, checks="gradient,determinism")
    assert state() == before
    assert report.passed
    assert f"changes settings of the whole process ({name}), which were put back" in report.notes


@pytest.mark.parametrize("name", [*CHANGES, *OF_THE_THREAD])
def test_each_setting_is_put_back_where_it_was_changed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change = {**CHANGES, **OF_THE_THREAD}[name]
    first = Settings()
    change()  # torch imports what it needs for it, which sets what is its own
    first.close()
    before = state()
    settings = Settings()
    change()
    assert state() != before
    settings.close()
    assert state() == before
    assert settings.changed == [name]


def test_a_subject_that_raises_leaves_nothing_changed() -> None:
    def raising(x: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        raise ValueError("no")

    with pytest.raises(TypeError, match="forward of raising raised ValueError: no"):
        check(raising, X)
    assert torch.get_default_dtype() is torch.float32


def test_a_subject_that_changes_nothing_is_told_nothing() -> None:
    assert not [note for note in check(torch.sin, X).notes if "settings" in note]


def test_what_an_import_sets_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets_a_variable.py").write_text("import os\nos.environ['NNFS_TEST_OF_IMPORTS'] = '1'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("NNFS_TEST_OF_IMPORTS", "0")

    def importing(x: Tensor) -> Tensor:
        import sets_a_variable  # type: ignore[import-not-found]  # noqa: F401

        return x.sin()

    report = check(importing, X, checks="gradient")
    assert os.environ["NNFS_TEST_OF_IMPORTS"] == "1"
    assert not [note for note in report.notes if "settings" in note]


def shown_by(checks: str | None, x: Tensor = X) -> list[str]:
    """What a subject's warnings say that are shown, in order."""
    shown: list[str] = []

    def warning(x: Tensor) -> Tensor:
        warnings.warn(f"at {x.detach().tolist()} in {x.dtype}", stacklevel=1)
        return x.sin()

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("default")
        patch.setattr(warnings, "showwarning", lambda message, *_, **__: shown.append(str(message)))
        check(warning, x, checks=checks)
    return shown


@pytest.mark.parametrize("checks", [None, "gradient", "determinism,other_shapes,low_precision"])
def test_warnings_are_shown_once_and_at_the_given_inputs_alone(checks: str | None) -> None:
    assert shown_by(checks) == [f"at {X.tolist()} in torch.float64"]


def test_nan_among_the_given_inputs_is_nan_again() -> None:
    x = torch.tensor([1.0, float("nan")], dtype=torch.float64)
    assert shown_by("determinism", x) == ["at [1.0, nan] in torch.float64"]


def test_a_warning_of_the_backward_at_the_given_inputs_is_shown() -> None:
    class Loud(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            warnings.warn(f"shape {tuple(x.shape)}", stacklevel=1)
            gradient: Tensor = g * x.cos()
            return gradient

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert check(Loud, X, checks="gradient,other_shapes").passed
    assert [str(warning.message) for warning in caught] == ["shape (3,)"]
