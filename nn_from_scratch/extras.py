"""What the package needs for a part of its work alone, and how to install it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from nn_from_scratch.errors import MissingDependencyError

#: The modules that each extra of the distribution brings, as far as the package itself imports them, and what
#: messages call them.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "denoise": {
        "safetensors": "safetensors",
        "skimage": "scikit-image",
        "PIL": "Pillow",
        "matplotlib": "matplotlib",
    },
    "strategies": {"hypothesis": "hypothesis"},
    "test": {"pytest": "pytest", "xdist": "pytest-xdist"},
}


def missing(what: str, module: str, extra: str) -> MissingDependencyError:
    """The error for a missing package, which says what installs it.

    Args:
        what: the part of this package that needs it; begins the sentence.
        module: the name under which it is imported, one of `EXTRAS[extra]`.
        extra: the extra that brings it.
    """
    return MissingDependencyError(
        f"{what} needs {EXTRAS[extra][module]}, which is not installed; in a clone of this project, install it with: "
        f"python -m pip install -e '.[{extra}]'"
    )


def require(what: str, extra: str, *modules: str) -> None:
    """Refuse to begin what would fail later for want of a package; nothing is imported.

    Args:
        what: the part of this package that needs them; begins the sentence.
        extra: the extra that brings them.
        modules: those of the extra that are needed; all of them by default.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    for module in modules or EXTRAS[extra]:
        if importlib.util.find_spec(module) is None:
            raise missing(what, module, extra)
