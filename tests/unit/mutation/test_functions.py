"""From the text of a target to functions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.mutation.functions import find_functions

SOURCE = '''\
import functools


def helper(x):
    return x


def relu_forward(x):
    return x


def relu_backward(dy, x):
    def inner():
        return dy
    return inner()


class Layer:
    def forward(self, x):
        return x

    @functools.cache
    def backward(self, dy):
        return dy

    def abstract_backward(self, dy):
        """What a subclass does."""
        raise NotImplementedError


try:
    import numpy

    class Guarded:
        def vjp(self, g):
            return g
except ImportError:
    pass
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mutable_layers.py").write_text(SOURCE, encoding="utf-8")
    package = tmp_path / "mutable_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from mutable_package.inner.deep import Deep\n", encoding="utf-8")
    (package / "inner" / "__init__.py").write_text("", encoding="utf-8")
    (package / "inner" / "deep.py").write_text(
        "class Deep:\n    def backward(self, g):\n        return g\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])  # no "", which stands for any current folder
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mutable_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("mutable_layers", ["relu_backward", "Layer.backward", "Guarded.vjp"]),
        ("mutable_layers:Layer", ["Layer.backward"]),
        ("mutable_layers:Layer.forward", ["Layer.forward"]),
        ("mutable_layers:relu_forward,relu_backward", ["relu_forward", "relu_backward"]),
        ("mutable_layers:relu_*", ["relu_forward", "relu_backward"]),
        ("mutable_layers.py:helper", ["helper"]),
        ("mutable_package", ["Deep.backward"]),
        ("mutable_package.inner", ["Deep.backward"]),
        ("mutable_package:Deep", ["Deep.backward"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_target_names_functions(target: str, expected: list[str]) -> None:
    assert [function.qualname for function in find_functions([target])] == expected


def test_a_function_knows_its_place(folder: Path) -> None:
    (function,) = find_functions(["mutable_layers:Layer"])
    assert function.name == "mutable_layers:Layer.backward"
    assert function.path == folder / "mutable_layers.py"
    assert SOURCE.splitlines()[function.line - 1].strip() == "@functools.cache"


@pytest.mark.usefixtures("folder")
def test_each_function_comes_once() -> None:
    assert len(find_functions(["mutable_layers:Layer", "mutable_layers"])) == 3


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mutable_layers:", "module, module:name or path/to/file.py:name is expected"),
        (":Layer", "module, module:name or path/to/file.py:name is expected"),
        ("nowhere:Layer", "there is no module 'nowhere' written in Python"),
        ("math:sin", "there is no module 'math' written in Python"),
        ("nowhere.py:Layer", "there is no file 'nowhere.py'"),
        ("mutable_layers:Later", "there is no function 'Later', nor a class of that name with a backward; there are: "),
        ("mutable_package.inner", None),
        ("colorsys", "nothing in it is called like a backward pass; there are: rgb_to_yiq"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_target_that_names_nothing_says_what_there_is(target: str, message: str | None) -> None:
    if message is None:
        assert find_functions([target])
        return
    with pytest.raises(ArgumentError) as error:
        find_functions([target])
    assert message in str(error.value) and repr(target) in str(error.value)


def test_a_file_that_is_not_python_is_refused(folder: Path) -> None:
    (folder / "broken.py").write_text("def backward(:\n", encoding="utf-8")
    with pytest.raises(SubjectError, match=r"broken.py' is not Python: line 1"):
        find_functions(["broken.py"])
