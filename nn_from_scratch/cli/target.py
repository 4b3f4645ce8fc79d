"""From the text `module:name` or `file.py:name` to the subject that it names, and from texts to its inputs."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from nn_from_scratch.cli.own_modules import PROTECTED, OwnModulesFirst, shadowing
from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.storage import resolved

if TYPE_CHECKING:
    from torch import Tensor


Made = TypeVar("Made")

_PACKAGE = Path(__file__).resolve().parents[1]
_INPUT = re.compile(r"(?P<shape>scalar|\d+(,\d+)*)(:(?P<dtype>[a-z]+\d*)(<(?P<below>\d+))?)?")


def load_target(text: str) -> object:
    """Import what the text names; "file.py:forward,backward" gives a pair.

    Raises:
        ArgumentError: the text is not of the form, or names something that is not there.
        SubjectError: the module cannot be imported; the message is its own error.
    """
    place, colon, names = text.rpartition(":")
    if not colon and text.endswith(".py") and Path(text).is_file():
        raise ArgumentError(
            f"target is {text!r}, a file without a name in it; say what to take from it, as in "
            f"{text}:{' or :'.join(_defined(Path(text))[:8]) or 'NAME'}"
        )
    if not colon or not place or not names:
        raise ArgumentError(f"target is {text!r}, but package.module:name or path/to/file.py:name is expected")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    found = tuple(_attribute(module, name.strip(), target=text) for name in names.split(","))
    return found[0] if len(found) == 1 else found


def load_surrogate(text: str) -> object:
    """The same for the function whose derivative a backward is meant to be; messages call it the surrogate."""
    try:
        return load_target(text)
    except ArgumentError as error:
        raise ArgumentError(f"surrogate{str(error).removeprefix('target')}") from error


def make_subject(target: object, positional: Sequence[object], named: Mapping[str, object]) -> object:
    """The subject itself: a class is called with the arguments to make one, everything else is taken as it is.

    An autograd Function is a class too, but is never made: it is applied, and so is a class of static methods that is
    given arguments.

    Raises:
        SubjectError: the constructor raises; the message is its own error.
    """
    if not inspect.isclass(target) or _is_applied(target, given=bool(positional or named)):
        return target
    try:
        return target(*positional, **named)
    except BaseException as error:  # user code; its sys.exit(0) must not end as our success
        given = ", ".join([*map(repr, positional), *(f"{name}={value!r}" for name, value in named.items())])
        hint = "; --arg VALUE or --arg NAME=VALUE hands it an argument" if isinstance(error, TypeError) else ""
        raise SubjectError(f"{target.__name__}({given}) raises {_own_words(error)}{hint}") from error


def arrange_call(
    subject: object, inputs: Sequence[object], positional: Sequence[object], named: Mapping[str, object]
) -> tuple[list[object], dict[str, object]]:
    """The arguments of a call: each named one in its place, the inputs and then the positional ones in what is left.

    Args:
        subject: what is called.
        inputs: the tensors or arrays.
        positional: further arguments, such as a number of groups.
        named: further arguments by name.

    Returns:
        The positional arguments, and those that the signature has no place for, by name.
    """
    from nn_from_scratch.verify.subjects.recognition import call_names

    rest, keywords = [*inputs, *positional], dict(named)
    names = call_names(subject, len(inputs) + len(positional) + len(named))
    placed: list[object] = []
    for name in names:
        if name in keywords:
            placed.append(keywords.pop(name))
        elif rest:
            placed.append(rest.pop(0))
        else:
            break  # what stands here has its default value, and what comes later goes by its name
    return [*placed, *rest], keywords


def draw_inputs(
    texts: Sequence[str], subject: object, *, seed: int, dtype: str | None = None, numpy: bool = False
) -> list[Any]:
    """Draw the inputs that texts such as "4,3" or "4,3:float32" or "4:int64<10" ask for.

    Args:
        texts: of each input the shape, then perhaps a dtype, then for integers perhaps an upper bound.
        subject: what takes them; where a text names no dtype, they have that of its parameters.
        seed: of the drawing; two inputs of one shape are drawn apart.
        dtype: instead of that of the parameters.

    Raises:
        ArgumentError: a text is not of that form, or the dtype does not exist.
    """
    chosen = dtype or _dtype_of(subject)
    tensors = [_draw(text, place=place, seed=seed, dtype=chosen) for place, text in enumerate(texts)]
    return [tensor.numpy() for tensor in tensors] if numpy else list(tensors)


def _dtype_of(subject: object) -> str:
    """The dtype that the inputs should have: that of the first parameter, else of the largest tensor that is held."""
    import torch

    from nn_from_scratch.verify.subjects.reachable import held_tensors

    found = subject.parameters() if isinstance(subject, torch.nn.Module) else ()
    for value in (*found, *sorted(_held(held_tensors(subject)), key=lambda tensor: -tensor.numel())):
        if value.is_floating_point():
            return str(value.dtype).removeprefix("torch.")
    return "float64"


def _held(values: Mapping[Any, Any]) -> list[Tensor]:
    import torch

    return [torch.as_tensor(value) for value in values.values()]


def _draw(text: str, *, place: int, seed: int, dtype: str) -> Tensor:
    import torch

    from nn_from_scratch.testing import draw_input

    match = _INPUT.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ArgumentError(f"input is {text!r}, but a shape such as 4,3,8,8 or 4,3:float32 or 4:int64<10 is expected")
    shape = () if match["shape"] == "scalar" else tuple(map(int, match["shape"].split(",")))
    kind = getattr(torch, match["dtype"] or dtype, None)
    if not isinstance(kind, torch.dtype):
        raise ArgumentError(f"input is {text!r}, but torch has no dtype {match['dtype']!r}; float64 or int64, say")
    values = draw_input(shape, place=place, seed=seed)
    if kind.is_floating_point or kind.is_complex:
        if match["below"] is not None:
            raise ArgumentError(f"input is {text!r}, but an upper bound is for integers")
        return values.to(kind)
    below = int(match["below"] or 2)
    if below < 1:
        raise ArgumentError(f"input is {text!r}, but the upper bound must be at least 1")
    generator = torch.Generator().manual_seed(1009 * seed + place)
    return torch.randint(below, shape, generator=generator).to(kind)


def _is_applied(target: type, *, given: bool) -> bool:
    """Whether a class is called itself: a Function, or one of static methods if there are arguments for the call."""
    import torch

    from nn_from_scratch.verify.subjects.methods import find_methods, is_static

    methods = find_methods(target)
    return issubclass(target, torch.autograd.Function) or (given and methods is not None and is_static(target, methods))


def _attribute(module: ModuleType, dotted: str, *, target: str) -> object:
    found: object = module
    for name in dotted.split("."):
        if not hasattr(found, name):
            known = sorted(
                key
                for key, value in vars(module).items()
                if not key.startswith("_") and not isinstance(value, ModuleType)
            )
            listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            close = difflib.get_close_matches(name, known, n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise ArgumentError(
                f"target is {target!r}, but there is no {name!r}{meant}; there are: {listed or 'no names'}"
            )
        found = getattr(found, name)
    return found


def _defined(path: Path) -> list[str]:
    """What a file defines at its top, without running it; nothing if it cannot be read as Python."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return []
    return [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_"]


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, as under `python -m`
    _keep_own_modules(Path())
    try:
        return importlib.import_module(name)
    except BaseException as error:  # user code; its sys.exit(0) must not end as our success
        raise SubjectError(f"module {name!r} cannot be imported: {_own_words(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ArgumentError(f"target names the file {str(path)!r}, which does not exist")
    root, name = _root_of(resolved(path))
    _keep_own_modules(root)
    if name != path.stem:  # in a package, whose relative imports need its name
        with _importable(root, Path.cwd()):
            return _run(path, lambda: importlib.import_module(name))
    # A file may be called as a module that others need: then it is imported, but does not take that module's place.
    name = f"verified_{path.stem}" if path.stem in PROTECTED else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"target names the file {str(path)!r}, which is not Python source")
    loader, module = spec.loader, importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _importable(root, Path.cwd()):
        _run(path, lambda: loader.exec_module(module))
    return module


def _root_of(path: Path) -> tuple[Path, str]:
    """The folder from which a file is imported, and its dotted name there, packages included."""
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(names if names[-1] != "__init__" else names[:-1])


@contextmanager
def _importable(*folders: Path) -> Iterator[None]:
    """Context manager in which modules of these folders can be imported, as when a file is run there."""
    added = [str(folder) for folder in folders]
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def _run(path: Path, imported: Callable[[], Made]) -> Made:
    try:
        return imported()
    except BaseException as error:  # user code; its sys.exit(0) must not end as our success
        raise SubjectError(f"file {str(path)!r} cannot be imported: {_own_words(error)}") from error


def _keep_own_modules(folder: Path) -> None:
    sys.meta_path.insert(0, OwnModulesFirst(folder))
    names = shadowing(folder)
    if names and folder.resolve() != _PACKAGE.parent:  # a clone of this project holds its own package
        sys.stderr.write(f"nn-from-scratch: not taken from the target's folder: {', '.join(names)}\n")


def _own_words(error: BaseException) -> str:
    """The error's type and message, and the line that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{where}"
