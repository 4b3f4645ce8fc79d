"""How packages export names: loaded when they are first used, and layers, losses and optimizers without a list."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_exports(package: str, **names_in: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose public names are imported when they are first used.

    Args:
        package: its `__name__`.
        names_in: for each module inside (dots written as two underscores), the names taken from it, separated by
            spaces; "*" for all in its `__all__`. Modules are imported in this order until one has the name.
    """
    homes = {f"{package}.{module.replace('__', '.')}": names for module, names in names_in.items()}

    def exported(module: str) -> list[str]:
        names = homes[module]
        return list(import_module(module).__all__) if names == "*" else names.split()

    def list_names() -> list[str]:
        return sorted(set().union(*map(exported, homes)))

    def get_attribute(name: str) -> object:
        if name == "__all__":
            return list_names()
        if not name.startswith("_"):
            for module in homes:
                if name in exported(module):
                    found = getattr(import_module(module), name)
                    setattr(sys.modules[package], name, found)
                    return found
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get_attribute, list_names


def subclasses_in(namespace: Mapping[str, object], base: type) -> list[str]:
    """The names of the public subclasses of a class in a namespace, without that class itself, sorted."""
    return sorted(
        name
        for name, value in namespace.items()
        if isinstance(value, type) and issubclass(value, base) and value is not base and not name.startswith("_")
    )
