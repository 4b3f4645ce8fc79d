"""Whether a printed text is what a page shows: timings and rounding may differ, and `...` stands for anything."""

from __future__ import annotations

import difflib
import doctest
import re

_SECONDS = re.compile(r"\b\d+(\.\d+)?(e-?\d+)? ?(ms|s|seconds)\b")
_VERSIONS = re.compile(r"(python|pytest|pluggy|torch|numpy|threads|platform)([ -])[^,\n]+")
# What is made of rounding errors alone differs between processors: 7.4e-13, 3.5e+11.
_SCIENTIFIC = re.compile(r"\b\d(\.\d+)?e[+-]?\d+")
_MARGIN = re.compile(r"(\|difference\| / allowed:? )\S+")
# With a GPU at hand one check more applies.
_COUNT = re.compile(r"\b\d+ (correct|not applicable)")
_DECIMAL = re.compile(r"-?\d+\.\d+")
_BAR = re.compile(r"={3,}|-{3,}|_{3,}")


def difference(shown: str, printed: str) -> str | None:
    """None if they are the same but for timings, versions and rounding; else both, side by side.

    Args:
        shown: the block of the page; `...` stands for any text, also over several lines.
        printed: what was really printed.
    """
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    expected, got = _settled(shown), _settled(printed)
    if doctest.OutputChecker().check_output(expected, got, flags):
        return None
    return "\n".join(difflib.unified_diff(expected.splitlines(), got.splitlines(), "shown", "printed", lineterm=""))


def _settled(text: str) -> str:
    text = _SECONDS.sub("SECONDS", text)
    text = _VERSIONS.sub(r"\1\2VERSION", text)
    text = _MARGIN.sub(r"\1ROUNDING", text)
    text = _COUNT.sub(r"COUNT \1", text)
    text = _SCIENTIFIC.sub("ROUNDING", text)
    text = _DECIMAL.sub(lambda number: f"{float(number[0]):.2g}", text)
    return _BAR.sub("---", text).strip() + "\n"
