"""A mutant, or a watching wrapper, in place of a live function."""

from __future__ import annotations

import gc
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.mutation.functions import find_functions
from nn_from_scratch.mutation.installation import FunctionWatch, install, live_functions, wrap
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.source import source_mutants

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


def test_the_lines_that_ran_and_the_largest_result_are_seen() -> None:
    def backward(g: Tensor, double: bool) -> Tensor:
        if double:
            return 2 * sum(x for x in g)[None]  # type: ignore[no-any-return]  # a sum of tensors is one
        return g

    watch, before = FunctionWatch(), sys.gettrace()
    assert isinstance(backward, FunctionType)
    watch.put_on(backward, "m:backward")
    assert torch.equal(backward(torch.ones(3), True), torch.tensor([6.0]))
    assert watch.reached == {"m:backward": {0, 1, 2}} or watch.reached == {"m:backward": {1, 2}}
    watch.begin()
    backward(torch.ones(3), False)
    assert watch.reached["m:backward"] == {1, 3}
    assert watch.seen["m:backward"][""].shape == (3,) and watch.cotangents == {"m:backward"}
    assert sys.gettrace() is before


def test_of_a_generator_it_is_known_that_it_was_called_and_no_more() -> None:
    def parts(n: int) -> Iterator[int]:
        yield from range(n)

    watch = FunctionWatch()
    assert isinstance(parts, FunctionType)
    watch.put_on(parts, "m:parts")
    assert list(parts(2)) == [0, 1]
    assert watch.reached == {"m:parts": None}


def test_a_call_that_a_cache_would_answer_is_seen_in_each_test() -> None:
    @lru_cache
    def plan(n: int) -> int:
        return n

    (function,) = (each for each in gc.get_referents(plan) if isinstance(each, FunctionType))
    watch = FunctionWatch()
    watch.put_on(function, "m:plan")
    for _ in range(2):
        watch.begin()
        assert plan(1) == 1 and "m:plan" in watch.reached
