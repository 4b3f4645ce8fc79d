"""From a campaign's TOML file to its cases. Reading it loads no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nn_from_scratch import __version__
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.storage import resolved

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text for text in value)


def _is_target(value: Any) -> bool:
    return isinstance(value, str) and ":" in value


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")


#: What a case may say of itself, a subject of its cases, and the defaults of all: whether a value is of that kind, what
#: the kind is, and the default.
_SETTINGS: Mapping[str, tuple[Callable[[Any], bool], str, Any]] = {
    "args": (lambda value: isinstance(value, list), "a list of values", []),
    "kwargs": (lambda value: isinstance(value, dict), "a table of values", {}),
    "inputs": (_is_texts, 'a list of texts such as "4,3" or "4:int64<10"', []),
    "dtypes": (_is_texts, 'a list of texts such as "float32"', []),
    "surrogate": (_is_target, "package.module:name or path/to/file.py:name", ""),
    "numpy": (lambda value: isinstance(value, bool), "true or false", False),
    "seed": (lambda value: type(value) is int and value >= 0, "a whole number of at least 0", 0),
    "repeat": (lambda value: type(value) is int and value >= 1, "a whole number of at least 1", 1),
    "level": (lambda value: value in ("quick", "full"), '"quick" or "full"', "quick"),
    "checks": (_is_texts, 'a list of names, such as ["gradient"] or ["-copies"]', []),
    "fragile": (lambda value: value in ("fail", "report"), '"fail" or "report"', "fail"),
    "strict": (lambda value: isinstance(value, bool), "true or false", False),
    "time_limit": (_is_duration, "a positive number of seconds", 60.0),
    "limit": (_is_duration, "a positive number of seconds", 600.0),
}


@dataclass(frozen=True, kw_only=True)
class CampaignCase:
    """One verification of a campaign, as data.

    Attributes:
        id: unique in the campaign: subject, case, dtype and seed, with slashes between them.
        target: what to verify, as on the command line; a file is given by its absolute path.
        args, kwargs: what a class is called with to make the subject, or a function beside its inputs.
        inputs: the inputs to draw, as on the command line.
        surrogate: the function whose derivative the backward is meant to be, as a target; "" for the forward.
        dtype: of subject and inputs; None for the subject's own.
        numpy: whether the inputs are handed over as arrays.
        seed, level, checks, fragile, strict, time_limit: as of `nn_from_scratch.verify.check`; no checks for all.
        limit: seconds for the whole case.
    """

    id: str
    target: str
    args: list[Any]
    kwargs: dict[str, Any]
    inputs: list[str]
    dtype: str | None
    surrogate: str
    numpy: bool
    seed: int
    level: str
    checks: list[str]
    fragile: str
    strict: bool
    time_limit: float
    limit: float


def read_campaign(path: Path) -> list[CampaignCase]:
    """Read a campaign.

    Raises:
        ArgumentError: the file is missing or not TOML, a key or a value in it makes no sense, or there is no case.
    """
    if path.is_char_device() or path.is_block_device():  # /dev/zero has no end
        raise ArgumentError(f"campaign is {str(path)!r}, which is a device: name a file")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"campaign is {str(path)!r}, which cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"campaign {str(path)!r} is not TOML: {error}") from error
    _expect_keys(data, {"defaults", "subject"}, f"campaign {str(path)!r}")
    defaults = data.get("defaults", {})
    subjects = _tables(data["subject"], "subject") if data.get("subject", []) != [] else []
    if not isinstance(defaults, dict):
        raise ArgumentError(f"campaign {str(path)!r} has defaults {defaults!r}, but a table [defaults] is expected")
    base = {name: value for name, (_, _, value) in _SETTINGS.items()} | _settings(defaults, set(), "[defaults]")
    cases = [case for table in subjects for case in _of_subject(table, base, path)]
    if not cases:
        raise ArgumentError(f"campaign {str(path)!r} has no case: add a table [[subject]] with its target and inputs")
    twice = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise ArgumentError(f"campaign {str(path)!r} has two cases {twice[0]!r}: tell them apart by name")
    return cases


def fingerprint(path: Path, cases: list[CampaignCase]) -> str:
    """A hash of all that decides what a result means: the campaign, the sources of its targets, the versions."""
    digest = hashlib.sha256(json.dumps([asdict(case) for case in cases]).encode())
    targets = [target for case in cases for target in (case.target, case.surrogate) if target]
    for place in sorted({target.rpartition(":")[0] for target in targets}):
        source = Path(place) if place.endswith(".py") else _source_of_module(place)
        digest.update(place.encode() + (source.read_bytes() if source is not None and source.is_file() else b""))
    digest.update(f"{version('torch')} {__version__}".encode())
    return digest.hexdigest()[:16]


def _of_subject(table: Mapping[str, Any], base: Mapping[str, Any], path: Path) -> list[CampaignCase]:
    target = table.get("target")
    if not isinstance(target, str) or not _is_target(target):
        raise ArgumentError(
            f"a [[subject]] has the target {target!r}, but package.module:name or path/to/file.py:name is expected"
        )
    where = f"[[subject]] {target!r}"
    names = target.rpartition(":")[2]
    target = _from(path, target)
    subject = {**base, **_settings(table, {"target", "name", "case"}, where)}
    name = _name(table, names, where)
    found = []
    tables = _tables(table["case"], "subject.case") if "case" in table else [{}]
    for number, inner in enumerate(tables):
        settings = {**subject, **_settings(inner, {"name"}, f"[[subject.case]] of {where}")}
        settings["surrogate"] = _from(path, settings["surrogate"])
        own = _name(inner, "" if "case" not in table else str(number), where)
        found += _expanded(f"{name}/{own}" if own else name, target, settings, where)
    return found


def _from(campaign: Path, target: str) -> str:
    """A target with the absolute path of its file, which stands in a campaign relative to that."""
    place, _, names = target.rpartition(":")
    return f"{resolved(campaign.parent / place)}:{names}" if place.endswith(".py") else target


def _expanded(name: str, target: str, settings: Mapping[str, Any], where: str) -> list[CampaignCase]:
    if not settings["inputs"]:
        raise ArgumentError(f'{where} has a case {name!r} without inputs: give one text for each, as in ["4,3"]')
    rest = {key: value for key, value in settings.items() if key not in ("dtypes", "repeat", "seed")}
    found = []
    for dtype in settings["dtypes"] or [None]:
        for seed in range(settings["seed"], settings["seed"] + settings["repeat"]):
            parts = [name, *([dtype] if dtype else []), *([f"seed{seed}"] if settings["repeat"] > 1 else [])]
            found.append(CampaignCase(id="/".join(parts), target=target, dtype=dtype, seed=seed, **rest))
    return found


def _settings(table: Mapping[str, Any], others: set[str], where: str) -> dict[str, Any]:
    _expect_keys(table, {*_SETTINGS, *others}, where)
    found = {name: table[name] for name in _SETTINGS if name in table}
    for name, value in found.items():
        fits, expected, _ = _SETTINGS[name]
        if not fits(value):
            raise ArgumentError(f"{where} has {name} = {value!r}, but {expected} is expected")
    return found


def _name(table: Mapping[str, Any], default: str, where: str) -> str:
    name = table.get("name", default)
    if not isinstance(name, str) or ("name" in table and not name) or any(c in name for c in "/:[]\n"):
        raise ArgumentError(f"{where} has the name {name!r}, but a text without / : [ ] is expected")
    return name


def _tables(value: object, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(table, dict) for table in value):
        raise ArgumentError(f"the campaign has {name} = {value!r}, but tables [[{name}]] are expected")
    return value


def _expect_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ArgumentError(f"{where} has an unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")


def _source_of_module(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None  # the case itself says what is wrong with it
    return None if spec is None or spec.origin is None else Path(spec.origin)
