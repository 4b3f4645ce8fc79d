"""Settings of the whole process that a subject may change: they are put back after each check, and told."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One setting.

    Attributes:
        name: What reports call it.
        read: Gives its value.
        put_back: Takes such a value.
        by_imports: Whether importing a module may change it as well.
        slow: Whether it takes so long to read that it is looked at in the end alone.
    """

    name: str
    read: Callable[[], Any]
    put_back: Callable[[Any], object]
    by_imports: bool = False
    slow: bool = False


def _working_folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed
        return None


def _enter(folder: Path | None) -> None:
    if folder is not None:
        with suppress(OSError):  # it was removed in the meantime
            os.chdir(folder)


def _put_filters_back(held: list[Any]) -> None:
    warnings.resetwarnings()  # which also forgets what was already shown under the other ones
    warnings.filters.extend(held)  # type: ignore[attr-defined]


def _put_environment_back(held: dict[str, str]) -> None:
    for name in os.environ.keys() - held.keys():
        del os.environ[name]
    os.environ.update(held)


def _put_determinism_back(held: tuple[bool, bool]) -> None:
    on, warn_only = held
    torch.use_deterministic_algorithms(on, warn_only=warn_only)


_SETTINGS = (
    _Setting(name="the default dtype", read=torch.get_default_dtype, put_back=torch.set_default_dtype),
    _Setting(name="the default device", read=torch.get_default_device, put_back=torch.set_default_device),
    _Setting(name="the gradient mode", read=torch.is_grad_enabled, put_back=torch.set_grad_enabled),
    _Setting(
        name="anomaly detection",
        read=torch.is_anomaly_enabled,
        put_back=lambda on: torch.autograd.set_detect_anomaly(on),
    ),
    _Setting(
        name="deterministic algorithms",
        read=lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        put_back=_put_determinism_back,
    ),
    _Setting(
        name="the precision of float32 products",
        read=torch.get_float32_matmul_precision,
        put_back=torch.set_float32_matmul_precision,
    ),
    _Setting(name="the number of threads", read=torch.get_num_threads, put_back=torch.set_num_threads),
    _Setting(name="NumPy's handling of errors", read=np.geterr, put_back=lambda held: np.seterr(**held)),
    _Setting(name="the working folder", read=_working_folder, put_back=_enter),
    _Setting(
        name="the filters of warnings",
        read=lambda: list(warnings.filters),
        put_back=_put_filters_back,
        by_imports=True,
    ),
    _Setting(
        name="environment variables",
        read=lambda: dict(os.environ),
        put_back=_put_environment_back,
        by_imports=True,
        slow=True,
    ),
)


@contextmanager
def warnings_only_where(wanted: Callable[[], bool]) -> Iterator[None]:
    """Context manager in which a warning is shown only if it is wanted at that time.

    The filters stay as they are, since changing them would show every earlier warning once more; a filter that makes
    errors of warnings still does.
    """
    shown = warnings.showwarning

    def show(*message: Any, **rest: Any) -> None:
        if wanted():
            shown(*message, **rest)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


class Settings:
    """The settings of the process at one time, to which they return.

    Attributes:
        changed: The names of what was found changed so far.
    """

    def __init__(self) -> None:
        self._held = [(setting, setting.read()) for setting in _SETTINGS]
        self._modules = self._modules_before = len(sys.modules)
        self.changed: list[str] = []

    def restore(self, *, ended: bool = False) -> None:
        """Put back what has changed; what is slow to read where the checks have `ended`.

        Modules that were imported meanwhile, by the subject or by torch, may have set filters and variables, which are
        theirs then: they are taken as they are.
        """
        modules = len(sys.modules)
        for place, (setting, held) in enumerate(self._held):
            if setting.slow and not ended:
                continue
            now = setting.read()
            if now == held:
                continue
            if setting.by_imports and modules != (self._modules_before if setting.slow else self._modules):
                self._held[place] = (setting, now)
            else:
                setting.put_back(held)
                self.changed += [setting.name] if setting.name not in self.changed else []
        self._modules = modules

    def close(self) -> None:
        """Put back all that has changed."""
        self.restore(ended=True)

    def notes(self) -> list[str]:
        """A sentence for the report, where something was changed."""
        if not self.changed:
            return []
        return [f"changes settings of the whole process ({', '.join(self.changed)}), which were put back"]
