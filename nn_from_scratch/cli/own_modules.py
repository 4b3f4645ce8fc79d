"""A target's folder does not take the place of the modules that the verifier and torch need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: Modules that are never taken from a target's folder.
PROTECTED = frozenset({*sys.stdlib_module_names, "torch", "numpy", "nn_from_scratch"})


class OwnModulesFirst(MetaPathFinder):
    """Finds protected modules anywhere but in one folder, which may stand first in the path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a protected module from elsewhere; None leaves it to the next finder."""
        if path is not None or fullname not in PROTECTED:
            return None
        return PathFinder.find_spec(fullname, [place for place in sys.path if Path(place).resolve() != self._folder])


def shadowing(folder: Path) -> list[str]:
    """The names of the protected modules that also lie in this folder, sorted."""
    found = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return sorted(found & PROTECTED)
