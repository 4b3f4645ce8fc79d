"""Standalone Python source that repeats a finding in a new file."""

from __future__ import annotations

import base64
import importlib.util
import inspect
import sys
import textwrap
import types
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.verify import constants
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.results import CheckResult


@dataclass(frozen=True, kw_only=True)
class Call:
    """What `check` was called with: the object, its inputs, and keyword arguments that are not at their default."""

    subject: object
    inputs: tuple[object, ...]
    arguments: Mapping[str, object] = field(default_factory=dict)


class _NoSourceError(Exception):
    pass


def snippet(call: Call, result: CheckResult, context: CheckContext) -> str | None:
    """Source that runs one check again, on the same subject and inputs, and raises if it is wrong again.

    The subject is imported (by name, or from its file), or written out if it is a local function that needs
    nothing from around it, or put together from what it holds if it is an object. Inputs are written out; very
    large ones are replaced by random ones of the same shape, mean and spread, and the snippet says so. None if the
    subject or an argument can be written down in no way.
    """
    writer = _Writer()
    try:
        subject = writer.value(call.subject)
        inputs = [writer.value(value) for value in call.inputs]
        arguments = {key: writer.value(value) for key, value in call.arguments.items()}
    except _NoSourceError:
        return None
    arguments["checks"] = repr(result.check)
    default = CheckContext()
    for key in ("seed", "level", "factor"):
        if getattr(context, key) != getattr(default, key):
            arguments[key] = repr(getattr(context, key))
    passed = ["subject", *inputs, *(f"{key}={value}" for key, value in arguments.items())]
    lines = [
        "from __future__ import annotations",
        "",
        *sorted(writer.imports),
        "",
        "from nn_from_scratch.verify import check",
        "",
        *writer.lines,
        f"subject = {subject}",
        f"check({', '.join(passed)}).raise_if_wrong()",
    ]
    return "\n".join(lines) + "\n"


class _Writer:
    """Collects the imports and definitions that the expressions it writes need."""

    def __init__(self) -> None:
        self.imports = {"import torch"}
        self.lines: list[str] = []
        self._names: dict[int, str] = {}
        self._kept: list[object] = []

    def value(self, value: object) -> str:
        """An expression for the subject, an input or an argument."""
        owner = getattr(value, "__self__", None)
        if getattr(value, "__name__", "") == "apply" and isinstance(owner, type):
            return f"{self._definition(owner)}.apply"
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            text = repr(value)
            return f"float({text!r})" if text in ("inf", "-inf", "nan") else text
        if isinstance(value, torch.dtype):
            return repr(value)
        if type(value) in (list, tuple, set):
            assert isinstance(value, list | tuple | set)
            inner = ", ".join(self.value(entry) for entry in value)
            return f"[{inner}]" if isinstance(value, list) else f"{type(value).__name__}([{inner}])"
        if type(value) is OrderedDict and not value:
            self.imports.add("from collections import OrderedDict")
            return "OrderedDict()"
        if type(value) is dict:
            return "{" + ", ".join(f"{self.value(k)}: {self.value(v)}" for k, v in value.items()) + "}"
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
            return self._definition(value)
        return self._object(value)

    def _array(self, array: np.ndarray[Any, np.dtype[Any]]) -> str:
        if id(array) not in self._names:
            if array.dtype == object:
                raise _NoSourceError
            source = f"{self._tensor(torch.from_numpy(np.array(array)))}.numpy()"
            self.lines.append(f"{self._name('array', array)} = {source}")
        return self._names[id(array)]

    def _tensor(self, tensor: Tensor) -> str:
        if id(tensor) in self._names:
            return self._names[id(tensor)]
        kept = tensor.detach().to("cpu").contiguous()
        name = self._name("tensor", tensor)
        if kept.numel() <= constants.LISTED_ENTRIES:
            listed = self.value(kept.reshape(-1).tolist())
            self.lines.append(f"{name} = torch.tensor({listed}, dtype={kept.dtype}).reshape({list(kept.shape)})")
        elif kept.numel() <= constants.EMBEDDED_ENTRIES:
            self.imports |= {"import base64", "import zlib"}
            packed = zlib.compress(bytes(kept.reshape(-1).view(torch.uint8).numpy()), 9)
            text = base64.b85encode(packed).decode()
            parts = "\n".join(
                f"    {part!r}" for part in textwrap.wrap(text, constants.TEXT_WIDTH, break_on_hyphens=False)
            )
            self.lines += [f"{name} = (", parts, ")"]
            source = f"bytearray(zlib.decompress(base64.b85decode({name})))"
            self.lines.append(f"{name} = torch.frombuffer({source}, dtype={kept.dtype}).reshape({list(kept.shape)})")
        elif kept.is_floating_point():
            mean, spread = float(kept.double().mean()), float(kept.double().std())
            self.lines.append("# The original has too many entries: this one has its shape, mean and spread.")
            self.lines.append(
                f"{name} = {mean!r} + {spread!r} * torch.randn({list(kept.shape)}, dtype={kept.dtype}, "
                "generator=torch.Generator().manual_seed(0))"
            )
        else:
            raise _NoSourceError
        if isinstance(tensor, torch.nn.Parameter):
            self.lines.append(f"{name} = torch.nn.Parameter({name}, requires_grad={tensor.requires_grad})")
        elif tensor.requires_grad:
            self.lines.append(f"{name}.requires_grad_()")
        return name

    def _definition(self, target: type | types.FunctionType | types.BuiltinFunctionType) -> str:
        module, qualified = target.__module__, target.__qualname__
        if "<lambda>" in qualified:
            raise _NoSourceError
        if "<locals>" in qualified:
            return self._written_out(target)
        root = qualified.split(".")[0]
        found = sys.modules.get(module)
        if found is None or not hasattr(found, root):
            raise _NoSourceError
        if _importable(module):
            self.imports.add(f"import {module}")
            return f"{module}.{qualified}"
        if id(found) in self._names:
            return f"{self._names[id(found)]}.{qualified}"
        path = getattr(found, "__file__", None)
        if path is None:
            raise _NoSourceError
        self.imports |= {"import importlib.util"}
        name = self._name("module", found)
        self.lines += [
            f"{name}_spec = importlib.util.spec_from_file_location({name!r}, {str(path)!r})",
            f"{name} = importlib.util.module_from_spec({name}_spec)",
            f"{name}_spec.loader.exec_module({name})",
        ]
        return f"{name}.{qualified}"

    def _written_out(self, target: type | types.FunctionType | types.BuiltinFunctionType) -> str:
        """The source of a local definition, if the modules that it names are all that it needs."""
        if isinstance(target, types.BuiltinFunctionType):
            raise _NoSourceError
        try:
            source = textwrap.dedent(inspect.getsource(target))
        except (OSError, TypeError):
            raise _NoSourceError from None
        functions = [target] if isinstance(target, types.FunctionType) else _functions(target)
        for function in functions:
            variables = inspect.getclosurevars(function)
            for name, value in {**variables.nonlocals, **variables.globals}.items():
                if isinstance(value, types.ModuleType):
                    self.imports.add(f"import {value.__name__} as {name}")
                elif value is not target:
                    self.lines.append(f"{name} = {self.value(value)}")
        if isinstance(target, type):
            for base in target.__mro__[1:-1]:
                root = sys.modules.get(base.__module__.split(".")[0])
                if root is not None and _importable(root.__name__):
                    self.imports.add(f"import {root.__name__}")
        self.lines += [*source.rstrip().splitlines(), ""]
        return target.__name__

    def _object(self, value: object) -> str:
        """An object whose class can be imported, made without its constructor from what it holds."""
        kind = type(value)
        if id(value) in self._names:
            return self._names[id(value)]
        if not hasattr(value, "__dict__") or "<locals>" in kind.__qualname__:
            raise _NoSourceError
        owner = self._definition(kind)
        name = self._name("object", value)
        self.lines.append(f"{name} = {owner}.__new__({owner})")
        for key, held in vars(value).items():
            self.lines.append(f"vars({name})[{key!r}] = {self.value(held)}")
        return name

    def _name(self, prefix: str, value: object) -> str:
        """A new name, remembered for the value: what is shared in the original is shared in the source."""
        name = f"{prefix}{len(self._names)}"
        self._names[id(value)] = name
        self._kept.append(value)  # while it lives, no other object has its id
        return name


def _functions(owner: type) -> list[types.FunctionType]:
    members = [getattr(member, "__func__", member) for member in vars(owner).values()]
    return [member for member in members if isinstance(member, types.FunctionType)]


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):  # ValueError: of __main__
        return False
