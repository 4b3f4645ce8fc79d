"""What is installed, under which name, and what is said when a part is not there."""

from __future__ import annotations

import configparser
import importlib.util
import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from nn_from_scratch.cli import main
from nn_from_scratch.extras import EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXTS = [
    path
    for folder, endings in (("docs", ("md", "toml")), ("nn_from_scratch", ("py",)), ("examples", ("py", "md")))
    for ending in endings
    for path in sorted((ROOT / folder).rglob(f"*.{ending}"))
] + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml")]


def test_no_text_tells_to_install_the_strangers_distribution() -> None:
    foreign = re.compile(r"\bpip3? (install|download|wheel)\b[^\n&]*(?<![/\w])nn[-_]from[-_]scratch\b(?!/)")
    found = [f"{path}: {line[0]}" for path in TEXTS for line in foreign.finditer(path.read_text(encoding="utf-8"))]
    assert foreign.search("pip install 'nn_from_scratch[test]'")
    assert not foreign.search("pip install git+https://HOST/OWNER/nn_from_scratch")
    assert not found


def test_the_verifier_brings_nothing_heavy() -> None:
    names = {re.split(r"[<>=;]", entry)[0] for entry in PROJECT["dependencies"]}
    assert names == {"torch", "numpy", "rich", "jinja2", "filelock", "tomli"}


def test_every_dependency_has_bounds() -> None:
    entries = [*PROJECT["dependencies"], *(e for extra in PROJECT["optional-dependencies"].values() for e in extra)]
    calendar = ("furo",)  # numbered by date: no version of it promises anything
    free = [e for e in entries if not (re.search(r">=.*<", e) or e.startswith((f"{PROJECT['name']}[", *calendar)))]
    assert not free


def test_the_extras_that_messages_name_bring_those_packages() -> None:
    extras: dict[str, list[str]] = PROJECT["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        brought = {re.split(r"[<>=;]", entry)[0].lower() for entry in extras[extra]}
        assert {name.lower() for name in packages.values()} <= brought


@pytest.mark.parametrize("command", [["train"], ["denoise", "photo.png"], ["reproduce", "--quick"]])
def test_a_command_without_its_extra_says_which_line_installs_it(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    _hide(monkeypatch, "skimage")
    assert main(command) == 2
    assert capsys.readouterr().err == (
        f"nn-from-scratch: error: nn-from-scratch {command[0]} needs scikit-image, which is not installed; "
        "in a clone of this project, install it with: python -m pip install -e '.[denoise]'\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "package"),
    [
        (["mutate", "nn_from_scratch:ReLU", "--tests", "tests"], "pytest"),
        (["verify", "--campaign", "campaign.toml"], "pytest"),
        (["verify", "--campaign", "campaign.toml", "--jobs", "2"], "xdist"),
    ],
)
def test_what_runs_tests_says_which_line_installs_pytest(
    command: list[str], package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _hide(monkeypatch, package)
    assert main(command) == 2
    said = capsys.readouterr().err
    assert EXTRAS["test"][package] in said
    assert said.endswith("python -m pip install -e '.[test]'\n")


def _hide(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == hidden else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def test_the_denoiser_without_its_extra_says_which_line_installs_it() -> None:
    program = "import sys; sys.modules['safetensors'] = None\nfrom nn_from_scratch import Denoiser"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs safetensors, which is not installed" in done.stderr.splitlines()[-1]


def test_no_description_of_an_environment_is_read_as_a_factor() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "tox.ini", encoding="utf-8")
    descriptions = {name: settings[name].get("description", "") for name in settings.sections()}
    assert not [name for name, text in descriptions.items() if re.match(r"[\w!,{}-]+:(\s|$)", text)]


def test_the_environment_of_a_clone_is_not_part_of_it() -> None:
    tracked = subprocess.run(["git", "ls-files", ".venv"], cwd=ROOT, check=False, capture_output=True, text=True).stdout
    assert not tracked
    assert ".venv/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
