"""A mutant in place of a live function."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nn_from_scratch.mutation import Mutant, find_functions, source_mutants
from nn_from_scratch.mutation.installation import install, live_functions, wrap

SOURCE = """\
import functools


class Base:
    def backward(self, g, scale=2, *, extra=0):
        return g * scale + extra


class Layer(Base):
    def backward(self, g, scale=3, *, extra=1):
        return super().backward(g, scale, extra=extra) - 1


def twice(function):
    @functools.wraps(function)
    def call(*args):
        return 2 * function(*args)

    return call


@twice
def relu_backward(g):
    return g + 1


alias = Layer.backward
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    path = tmp_path / "installed_subject.py"
    path.write_text(SOURCE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = loaded
    spec.loader.exec_module(loaded)
    yield loaded
    del sys.modules[path.stem]


def put(module: ModuleType, name: str, operator: str) -> Any:
    (function,) = find_functions([f"{module.__file__}:{name}"])
    mutant = next(m for m in source_mutants(function) if m.operator == operator)
    assert install(mutant, function, live_functions(function))


def test_every_reference_meets_the_mutant(module: ModuleType) -> None:
    layer, alias, bound = module.Layer(), module.alias, module.Layer().backward
    assert layer.backward(5) == alias(layer, 5) == bound(5) == 15
    put(module, "Layer.backward", "operator")
    assert layer.backward(5) == alias(layer, 5) == bound(5) == 17


def test_a_decorated_function_is_found_behind_its_decorator(module: ModuleType) -> None:
    put(module, "relu_backward", "operator")
    assert module.relu_backward(5) == 8


def test_a_faulty_result_keeps_defaults_super_and_the_signature(module: ModuleType) -> None:
    (function,) = find_functions([f"{module.__file__}:Layer.backward"])
    before = inspect.signature(module.Layer.backward)
    for live in live_functions(function):
        wrap(live, lambda original: lambda *args, **kwargs: -original(*args, **kwargs))
    assert module.Layer().backward(5) == -15
    assert module.Layer().backward(5, 4, extra=0) == -19
    assert inspect.signature(module.Layer.backward) == before


def test_a_wrapper_can_be_wrapped(module: ModuleType) -> None:
    (function,) = find_functions([f"{module.__file__}:Layer.backward"])
    (live,) = live_functions(function)
    for _ in range(2):
        wrap(live, lambda original: lambda *args: original(*args) + 1)
    assert module.Layer().backward(5) == 17


def test_a_function_that_is_not_imported_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "never_imported.py"
    path.write_text("def backward(g):\n    return -g\n", encoding="utf-8")
    (function,) = find_functions([str(path)])
    mutant: Mutant = source_mutants(function)[0]
    assert not install(mutant, function, live_functions(function))
