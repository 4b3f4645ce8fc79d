"""The strategies for geometries: valid by construction, remainders often, shrinking, snippets that run, misuse."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import find, given, settings
from hypothesis import strategies as st

from nn_from_scratch.errors import ArgumentError, MissingDependencyError
from nn_from_scratch.verify.strategies import (
    CONVOLUTION_FAULTS,
    POOLING_FAULTS,
    TRANSPOSED_CONVOLUTION_FAULTS,
    Convolution,
    Invalid,
    Pooling,
    TransposedConvolution,
    convolutions,
    invalid_convolutions,
    invalid_poolings,
    invalid_transposed_convolutions,
    poolings,
    transposed_convolutions,
)

Geometry = Convolution | TransposedConvolution | Pooling
MANY = settings(max_examples=150, deadline=None, derandomize=True, database=None)
VALID = [convolutions(batch=(0, 3)), transposed_convolutions(batch=(0, 3)), poolings(batch=(0, 3))]
NAMES = ["convolutions", "transposed_convolutions", "poolings"]


def drawn(strategy: st.SearchStrategy[Any], *, examples: int = 150) -> list[Any]:
    """That many examples, the same in every run."""
    found: list[Any] = []

    @settings(MANY, max_examples=examples)
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found


def run(snippet: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(snippet, namespace)
    return namespace


@pytest.mark.parametrize("strategy", VALID, ids=NAMES)
def test_every_snippet_runs_alone_and_gives_the_stated_shape(strategy: st.SearchStrategy[Geometry]) -> None:
    for geometry in drawn(strategy):
        built = run(geometry.snippet(seed=3, dtype=torch.float32))
        assert tuple(built["y"].shape) == geometry.output_shape
        for operand, name in zip(geometry.operands(seed=3, dtype=torch.float32), ("x", "w"), strict=False):
            assert torch.equal(operand, built[name])


@pytest.mark.parametrize("strategy", [convolutions(), poolings()], ids=["convolutions", "poolings"])
def test_most_geometries_with_a_stride_have_a_remainder(strategy: st.SearchStrategy[Convolution | Pooling]) -> None:
    strided = [geometry for geometry in drawn(strategy, examples=400) if max(geometry.stride) > 1]
    assert sum(any(geometry.remainders) for geometry in strided) >= 0.5 * len(strided) > 100


@pytest.mark.parametrize("strategy", VALID, ids=NAMES)
def test_every_dimension_is_drawn(strategy: st.SearchStrategy[Geometry]) -> None:
    geometries = drawn(strategy, examples=400)
    for name in ("size", "kernel", "stride", "padding", "dilation"):
        pairs = [getattr(geometry, name) for geometry in geometries]
        assert sum(height != width for height, width in pairs) > 0.2 * len(pairs), f"{name} is mostly square"
    names = ["groups"] if hasattr(geometries[0], "groups") else ["ceil_mode"]
    for name in ["batch", *names]:
        assert len({getattr(geometry, name) for geometry in geometries}) >= 2
    if isinstance(geometries[0], TransposedConvolution):
        assert any(max(g.output_padding) > 0 for g in geometries)
        assert any(g.output_padding[0] >= g.stride[0] for g in geometries), "none between stride and dilation"
    if isinstance(geometries[0], Pooling):
        assert any(g.ceil_mode and g.extent[0] > g.size[0] + 2 * g.padding[0] for g in geometries)


def accepted_by_torch(call: Callable[[], object]) -> bool:
    try:
        call()
    except RuntimeError:
        return False
    return True


def given_by(strategy: Callable[..., object], **numbers: int) -> bool:
    try:
        strategy(**numbers, in_channels=1, out_channels=1, groups=1)
    except ArgumentError:
        return False
    return True


NUMBERS = list(product(range(1, 4), range(1, 3), range(2), range(1, 3), range(1, 4)))
ONE_SAMPLE: dict[str, Any] = {"batch": 1, "in_channels": 1, "out_channels": 1, "square": True}
SMALL: dict[str, Any] = {"kernel": (1, 3), "stride": (1, 2), "padding": (0, 1), "dilation": (1, 2), "size": (1, 3)}


def test_convolutions_are_what_torch_accepts() -> None:
    accepted = set()
    for k, s, p, d, n in NUMBERS:
        x, w = torch.ones(1, 1, n, n), torch.ones(1, 1, k, k)
        valid = accepted_by_torch(partial(F.conv2d, x, w, None, s, p, d))
        assert given_by(convolutions, kernel=k, stride=s, padding=p, dilation=d, size=n) == valid
        if valid:
            accepted.add((k, s, p, d, n))
    found = {
        (g.kernel[0], g.stride[0], g.padding[0], g.dilation[0], g.size[0])
        for g in drawn(convolutions(**SMALL, **ONE_SAMPLE), examples=500)
    }
    assert found <= accepted and len(found) > 0.9 * len(accepted)


def test_transposed_convolutions_are_what_torch_accepts() -> None:
    accepted = set()
    for (k, s, p, d, n), a in product(NUMBERS, range(2)):
        x, w = torch.ones(1, 1, n, n), torch.ones(1, 1, k, k)
        valid = accepted_by_torch(partial(F.conv_transpose2d, x, w, None, s, p, a, 1, d))
        numbers = {"kernel": k, "stride": s, "padding": p, "dilation": d, "size": n, "output_padding": a}
        assert given_by(transposed_convolutions, **numbers) == valid
        if valid:
            accepted.add((k, s, p, d, n, a))
    found = {
        (g.kernel[0], g.stride[0], g.padding[0], g.dilation[0], g.size[0], g.output_padding[0])
        for g in drawn(transposed_convolutions(**SMALL, **ONE_SAMPLE, output_padding=(0, 1)), examples=700)
    }
    assert found <= accepted and len(found) > 0.9 * len(accepted)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_no_window_of_a_pooling_holds_padding_alone(ceil_mode: bool) -> None:
    for g in drawn(poolings(ceil_mode=ceil_mode, size=(1, 4), padding=(0, 3), dilation=(1, 4))):
        ones = torch.zeros(1, 1, *g.size)
        assert F.max_pool2d(ones, g.kernel, **g.options).shape[2:] == g.output_size
        for n, count, K, s, p, d in zip(g.size, g.output_size, g.kernel, g.stride, g.padding, g.dilation, strict=True):
            assert all(any(0 <= i * s - p + k * d < n for k in range(K)) for i in range(count))


@pytest.mark.parametrize("strategy", [convolutions(), transposed_convolutions(), poolings()], ids=NAMES)
def test_they_shrink_to_one_of_everything(strategy: st.SearchStrategy[Geometry]) -> None:
    smallest = find(strategy, lambda geometry: True, settings=MANY)
    assert smallest == type(smallest)()


def test_a_failure_shrinks_to_the_smallest_geometry_that_has_it() -> None:
    def fails(g: Convolution) -> bool:
        return g.remainders[1] > 0 and g.kernel[0] > 1 and g.groups > 1

    assert find(convolutions(), fails, settings=MANY) == Convolution(
        in_channels=2, out_channels=2, groups=2, size=(2, 2), kernel=(2, 1), stride=(1, 2)
    )


def test_the_smallest_failures_of_other_geometries() -> None:
    found = find(transposed_convolutions(), lambda g: g.output_padding[0] >= g.stride[0], settings=MANY)
    assert found == TransposedConvolution(dilation=(2, 1), output_padding=(1, 0))
    pooling = find(poolings(), lambda g: g.ceil_mode and g.remainders[0] > 0 and g.padding[0] > 0, settings=MANY)
    assert pooling == Pooling(size=(1, 1), kernel=(2, 1), stride=(2, 1), padding=(1, 0), ceil_mode=True)
    invalid = find(invalid_convolutions(), lambda i: i.fault == "zero stride" and i.geometry.size[0] > 2, settings=MANY)
    assert invalid.geometry == Convolution(size=(3, 1), stride=(0, 1))


def test_a_failing_test_prints_a_snippet_that_runs() -> None:
    @settings(MANY, max_examples=50)
    @given(geometry=convolutions())
    def right_without_stride(geometry: Convolution) -> None:
        assert geometry.stride == (1, 1)

    with pytest.raises(AssertionError) as caught:
        right_without_stride()
    notes = getattr(caught.value, "__notes__", [])
    assert Convolution(stride=(1, 2)).snippet() in notes or Convolution(stride=(2, 1)).snippet() in notes
    snippet = next(note for note in notes if note.startswith("import torch"))
    assert tuple(run(snippet)["y"].shape) == (1, 1, 1, 1)


def test_the_documentation_shows_what_is_printed() -> None:
    def forgets_dilation_along_the_width(g: Convolution) -> bool:
        (x, w), (d, _) = g.operands(), g.dilation
        theirs = F.conv2d(x, w, **g.options)
        ours = F.conv2d(x, w, None, g.stride, g.padding, (d, 1), g.groups)
        return ours.shape != theirs.shape or not torch.allclose(ours, theirs)

    smallest = find(convolutions(), forgets_dilation_along_the_width, settings=MANY)
    text = (Path(__file__).parents[4] / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert f"```python\n{smallest.snippet()}\n```" in text


def test_nothing_is_printed_where_that_was_not_wanted() -> None:
    @settings(MANY, max_examples=5)
    @given(geometry=convolutions(show=False))
    def wrong(geometry: Convolution) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError) as caught:
        wrong()
    assert not any(note.startswith("import") for note in getattr(caught.value, "__notes__", []))


def test_a_geometry_is_what_its_repr_says() -> None:
    for geometry in drawn(convolutions(), examples=20):
        assert eval(repr(geometry)) == geometry


def test_the_transposed_of_a_convolution_goes_back_to_its_input() -> None:
    for geometry in drawn(convolutions()):
        back = geometry.transposed
        assert back.output_shape == geometry.x_shape and back.w_shape == geometry.w_shape


INVALID: list[tuple[Callable[..., st.SearchStrategy[Invalid[Any]]], tuple[str, ...], type]] = [
    (invalid_convolutions, CONVOLUTION_FAULTS, Convolution),
    (invalid_transposed_convolutions, TRANSPOSED_CONVOLUTION_FAULTS, TransposedConvolution),
    (invalid_poolings, POOLING_FAULTS, Pooling),
]
# The layer's constructor alone can see the first: to torch's function C' is what the kernel says. The second it does
# not refuse, and writes outside of its memory.
NOT_REFUSED = {(TransposedConvolution, "out_channels not divisible by groups"), (Pooling, "window of padding alone")}


@pytest.mark.parametrize(
    ("strategy", "fault", "kind"),
    [
        pytest.param(strategy, fault, kind, id=f"{kind.__name__}-{fault}")
        for strategy, faults, kind in INVALID
        for fault in faults
    ],
)
def test_torch_refuses_what_is_called_invalid(
    strategy: Callable[..., st.SearchStrategy[Invalid[Any]]], fault: str, kind: type
) -> None:
    for invalid in drawn(strategy(faults=[fault]), examples=25):
        assert isinstance(invalid.geometry, kind) and invalid.fault == fault
        if (kind, fault) in NOT_REFUSED:
            run(invalid.snippet())
            continue
        with pytest.raises(RuntimeError):
            run(invalid.snippet())


def test_faults_of_what_a_kernel_does_not_know_are_left_out() -> None:
    of_padding = {"window of padding alone", "negative padding", "padding over half of the kernel"}
    assert len({i.fault for i in drawn(invalid_poolings(), examples=250)} & of_padding) > 1
    assert not {i.fault for i in drawn(invalid_poolings(padding=False))} & of_padding
    for fault in of_padding:
        with pytest.raises(ArgumentError, match="at least one that the arguments leave possible is expected"):
            invalid_poolings(padding=False, faults=[fault])


def test_bounds_and_switches_hold() -> None:
    for g in drawn(convolutions(groups=False, dilation=False, padding=1, size=(20, 30), kernel=3, square=True)):
        assert (g.groups, g.dilation, g.padding, g.kernel) == (1, (1, 1), (1, 1), (3, 3))
        assert 20 <= g.size[0] == g.size[1] <= 30 and g.stride[0] == g.stride[1]
    for g in drawn(convolutions(in_channels=6, out_channels=(2, 9), groups=(2, 3)), examples=50):
        assert g.in_channels == 6 and g.groups in (2, 3) and 2 <= g.out_channels <= 9
    assert {g.dilation for g in drawn(poolings(dilation=False), examples=50)} == {(1, 1)}


def test_bounds_that_are_tight_still_give_geometries() -> None:
    for g in drawn(convolutions(size=1, kernel=(2, 9), dilation=(1, 4), padding=(0, 2)), examples=100):
        assert g.output_size == (1, 1) or max(g.output_size) <= 4
    for t in drawn(transposed_convolutions(size=1, padding=(2, 3), output_padding=(1, 2)), examples=100):
        assert min(t.output_size) >= 1
    for p in drawn(poolings(size=1, kernel=3, padding=1, dilation=(1, 3), ceil_mode=False), examples=20):
        assert p.extent == (3, 3)
    # Where neither end of a range will do, but something between.
    for p in drawn(poolings(size=1, kernel=5, padding=(0, 5), dilation=1, ceil_mode=False), examples=20):
        assert p.padding == (2, 2)
    between = transposed_convolutions(size=1, kernel=1, dilation=1, stride=(1, 4), padding=1, output_padding=(0, 9))
    assert {t.output_padding[0] for t in drawn(between, examples=50)} == {2, 3}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: convolutions(kernel=0), "kernel is 0, but an integer of at least 1, or a pair .* of them, is"),
        (lambda: convolutions(kernel=False), "kernel is False, but an integer of at least 1"),
        (lambda: convolutions(stride=(3, 1)), r"stride is \(3, 1\), but .* or False, is expected"),
        (lambda: convolutions(padding=-1), "padding is -1, but an integer of at least 0"),
        (lambda: convolutions(batch=(1, 2, 3)), r"batch is \(1, 2, 3\), but an integer"),  # type: ignore[arg-type]  # on purpose
        (lambda: poolings(size=1.5), "size is 1.5, but an integer of at least 1"),  # type: ignore[arg-type]  # on purpose
        (lambda: convolutions(groups=5), r"groups is 5, but none of them divides a number of channels in \(1, 4\)"),
        (
            lambda: convolutions(kernel=10, size=(1, 5)),
            "the bounds leave no geometry that is valid: kernel 10 to 10, .*; allow a larger size or a smaller kernel",
        ),
        (lambda: poolings(kernel=5, padding=0, size=4, ceil_mode=False), "the bounds leave no geometry that is valid"),
        (lambda: transposed_convolutions(padding=9, size=1), "the bounds leave no geometry that is valid"),
        (lambda: invalid_poolings(faults=["holes"]), "faults has 'holes', but the known ones are window larger than"),
        (lambda: invalid_poolings(faults=[]), r"faults is \[\], but at least one that the arguments leave possible"),
        (
            lambda: invalid_convolutions(faults=["zero groups"], groups=False),
            r"faults is \['zero groups'\], but at least one that the arguments leave possible is expected",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_without_hypothesis_the_import_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import nn_from_scratch.verify as v; v.check, v.explain\n"
        "import nn_from_scratch.verify.strategies"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "nn_from_scratch.errors.MissingDependencyError: nn_from_scratch.verify.strategies needs hypothesis, which is "
        "not installed; in a clone of this project, install it with: python -m pip install -e '.[strategies]'"
    )


def test_without_hypothesis_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    package = "nn_from_scratch.verify.strategies"
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "hypothesis", None)
        with pytest.raises(MissingDependencyError, match=r"needs hypothesis, which is not installed; .*\[strategies\]"):
            importlib.import_module(package)
    # Another module that is missing is not blamed on hypothesis.
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setitem(sys.modules, f"{package}.axes", None)
    with pytest.raises(ModuleNotFoundError, match="axes"):
        importlib.import_module(package)
