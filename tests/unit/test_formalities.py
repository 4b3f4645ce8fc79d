"""Formalities: exports, import walls, a spec for every layer, short files, cheap imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nn_from_scratch
from nn_from_scratch.engine import layers, losses, optimizers
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.mutation.equivalents import check_equivalents, load_equivalents
from nn_from_scratch.mutation.functions import find_functions
from nn_from_scratch.mutation.source import source_mutants
from nn_from_scratch.parity.specs import LAYERS, OPTIMIZERS, entry_of
from nn_from_scratch.verify.catalogue import Entry, Spec
from nn_from_scratch.verify.catalogue.twins import constructor_options

PACKAGE = Path(nn_from_scratch.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE.parent).as_posix() for path in FILES]

# fold, unfold and the forward kernels are functions on tensors; nothing else of torch.nn may be used.
TENSOR_FUNCTIONS = {"fold", "unfold", "pad", "conv2d", "pixel_shuffle", "max_pool2d"}


# What may be taken from pickle: nothing that reads.
WRITES_ONLY = {"dumps", "PicklingError", "UnpicklingError"}


def imports(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """The modules that a file imports anywhere in it, with the names taken from each."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", tuple(alias.name for alias in node.names)))
    return found


def folder_of(path: Path) -> str:
    """The folder of the package that a file lies in; of one beside the folders, its own name."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_public_name_can_be_imported_and_the_list_is_sorted() -> None:
    names = dir(nn_from_scratch)
    assert names == sorted(set(names)) == vars(nn_from_scratch)["__getattr__"]("__all__")
    for name in names:
        assert getattr(nn_from_scratch, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(nn_from_scratch, "nothing")  # noqa: B009  # the type checker knows that it is not there


@pytest.mark.parametrize("path", [path for path in FILES if folder_of(path) == "engine"], ids=lambda path: path.name)
def test_the_engine_knows_no_torch_nn_modules_and_no_autograd(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for module, names in imports(path):
        assert not module.startswith(("torch.autograd", "torch.func")), module
        if module.startswith("torch.nn"):
            assert module == "torch.nn.functional", module
            assert set(names) <= TENSOR_FUNCTIONS, names
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            assert node.attr not in ("nn", "autograd", "func"), f"torch.{node.attr} in line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("requires_grad_", "enable_grad"), f"{node.attr} in line {node.lineno}"


# The one way to see what torch computes below autograd; torch's own guide to extending it names this module.
NO_OTHER_NAME = {"torch.utils._python_dispatch"}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_underscored_module_of_torch_is_used(path: Path) -> None:
    for module, names in imports(path):
        if module.split(".")[0] == "torch" and module not in NO_OTHER_NAME:
            assert not any(part.startswith("_") for part in (*module.split("."), *names)), (module, names)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch._"):
            name = ast.unparse(node).split(".")[1]  # operations on lists have no other name yet
            assert name.startswith("_foreach_") or name == "__version__", f"torch.{name} in line {node.lineno}"


@pytest.mark.parametrize("path", [path for path in FILES if folder_of(path) == "verify"], ids=lambda path: path.name)
def test_the_verifier_needs_torch_and_numpy_alone(path: Path) -> None:
    strategies = path.relative_to(PACKAGE).parts[1] == "strategies"
    for module, _ in imports(path):
        if module.split(".")[0] == "nn_from_scratch":
            assert strategies or not module.startswith("nn_from_scratch.verify.strategies"), module
        else:
            # hypothesis is optional: the strategies alone need it, and nothing imports them.
            optional = {"hypothesis"} if strategies else set[str]()
            assert module.split(".")[0] in {*sys.stdlib_module_names, "torch", "numpy", *optional}, module


# What each folder may import beside itself and what all share. The command line may import everything.
MAY_IMPORT = {
    "engine": set[str](),
    "verify": set[str](),
    "parity": {"engine", "verify"},
    "bench": {"engine", "parity"},
    "denoise": {"engine"},
    "mutation": set[str](),
    "report": set[str](),
    "testing": {"bench", "report", "verify"},
    "reproduction": {"bench", "denoise", "engine", "parity", "report"},
}
SHARED = {"errors", "exports", "extras", "storage"}


@pytest.mark.parametrize("path", [path for path in FILES if folder_of(path) in MAY_IMPORT], ids=lambda path: path.name)
def test_imports_run_one_way(path: Path) -> None:
    for module, _ in imports(path):
        if module.startswith("nn_from_scratch."):
            assert module.split(".")[1] in MAY_IMPORT[folder_of(path)] | SHARED | {folder_of(path)}, module


def test_no_circle_of_imports_between_files_not_even_for_types_alone() -> None:
    dotted = {path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): path for path in FILES}
    files = {name.removesuffix(".__init__"): path for name, path in dotted.items()}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        targets = {".".join(filter(None, (module, x))) for module, names in imports(path) for x in (*names, "")}
        # A folder's list of exports names what lies in it; a file in it that imports from another one is no circle.
        graph[name] = {target for target in targets & files.keys() if not f"{name}.".startswith(f"{target}.")}
    # What imports nothing that is left, or is imported by nothing that is left, lies on no circle.
    while outside := {name for name in graph if not graph[name]} | graph.keys() - set().union(*graph.values()):
        graph = {name: targets - outside for name, targets in graph.items() if name not in outside}
    assert not graph


PUBLIC = [
    *(getattr(layers, name) for name in vars(layers)["__all__"]),
    *(getattr(losses, name) for name in vars(losses)["__all__"]),
    *(
        getattr(optimizers, name)
        for name in vars(optimizers)["__all__"]
        if issubclass(getattr(optimizers, name), Optimizer)
    ),
]


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_every_public_layer_loss_and_optimizer_has_an_entry(public: type) -> None:
    assert entry_of(public).name == public.__name__


def test_what_has_no_entry_is_told_the_line_to_add() -> None:
    class Forgotten(Layer):
        pass

    class Unlisted(Optimizer):
        pass

    with pytest.raises(KeyError, match=r"add `Spec\(Forgotten, cases, reference, twin=.*Forgotten\)` to SPECS in its"):
        entry_of(Forgotten)
    line = (
        r"add `OptimizerSpec\(Unlisted, cases, torch.optim.Unlisted, Held\)` to SPECS in optimizers.py under .*specs/"
    )
    with pytest.raises(KeyError, match=line):
        entry_of(Unlisted)


# What changes no number: where and how a layer computes.
ELSEWHERE = {"model", "generator", "device", "dtype", "algorithm"}


@pytest.mark.parametrize("entry", [*LAYERS, *OPTIMIZERS], ids=lambda entry: entry.name)
def test_every_option_takes_another_value_than_its_default_in_some_case(entry: Entry) -> None:
    options = constructor_options(entry.subject if isinstance(entry, Spec) else entry.optimizer)
    positional = [name for name in options if name != "model"]
    given = [{**dict(zip(positional, case.arguments, strict=False)), **case.options} for case in entry.cases]
    for name, parameter in options.items():
        values = [case[name] for case in given if name in case]
        other = any(value is not parameter.default and value != parameter.default for value in values)
        assert other or name in ELSEWHERE, name


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, "does it have two subjects?"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_torch_load_is_always_safe(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert arguments.get("weights_only") == "True", f"line {node.lineno}"
    for module, names in imports(path):
        assert module not in {"dill", "cloudpickle", "marshal", "shelve"}, module
        if module == "pickle":
            assert set(names) <= WRITES_ONLY, names
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
            assert node.attr in WRITES_ONLY, f"pickle.{node.attr} in line {node.lineno}"


@pytest.mark.parametrize(
    "module",
    [
        "nn_from_scratch",
        "nn_from_scratch.testing.plugin",
        "nn_from_scratch.testing",
        "nn_from_scratch.verify.catalogue",
        "nn_from_scratch.cli",
        "nn_from_scratch.denoise.distributed.launch",
        "nn_from_scratch.report",
    ],
)
def test_a_mere_import_loads_no_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_ci_runs_the_commands_of_the_readme() -> None:
    root = PACKAGE.parent
    readme, script = ((root / name).read_text(encoding="utf-8") for name in ("README.md", ".ci/run"))
    commands = [
        "python -m pip install -c constraints.txt -e '.[denoise]' && nn-from-scratch train",
        "python -m pip install tox && tox",
    ]
    for command in commands:
        assert f"```sh\n{command}\n```" in readme
        assert f"\n{command}\n" in script


def test_claims_of_equivalent_mutants_are_about_todays_source() -> None:
    functions = find_functions(["nn_from_scratch.engine.layers", "nn_from_scratch.engine.losses"])
    claims = load_equivalents(PACKAGE.parent / "tests" / "equivalent_mutants.toml")
    assert claims
    mutants = [mutant for function in functions for mutant in source_mutants(function)]
    check_equivalents(claims, mutants, functions)
