"""Entries and trials: their names, what is refused, and how subjects and inputs are made."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.parity.specs import CATALOGUE, LAYERS
from nn_from_scratch.parity.specs.convolution import geometry_name
from nn_from_scratch.verify.catalogue import (
    Case,
    Exemption,
    OptimizerSpec,
    Spec,
    Trial,
    checks_of,
    run_trial,
    trials_of,
)
from nn_from_scratch.verify.catalogue.building import build, prepare
from nn_from_scratch.verify.catalogue.rounding import tensor_cores

CASE = Case("image", ((2, 3),))


def relu(x: Tensor) -> Tensor:
    return x.relu()


def test_an_id_names_entry_case_variant_device_dtype_and_check() -> None:
    names = [trial.name for trial in trials_of(LAYERS)]
    assert len(set(names)) == len(names)
    assert {
        "Conv2d-k4s2p1-float64-gradient",
        "Conv2d-k4s2p1-float64-complex_step",
        "Conv2d-k4s2p1-float64-contracts",
        "Conv2d-k4s2p1-low_precision",
        "Conv2d-k4s2p1-float32-value",
        "Conv2d-k4s2p1-unfold-float32-parameter_gradient",
        "Conv2d-k4s2p1-cuda-tf32-input_gradient",
        "MSE-sum-cuda-float64-contracts",
    } <= set(names)
    assert "ReLU-image-float64-parameter_gradient" not in names  # it has no parameters


@pytest.mark.parametrize(
    ("kernel", "options", "name"),
    [
        (4, {"stride": 2, "padding": 1}, "k4s2p1"),
        ((2, 4), {"dilation": (3, 2), "stride": (2, 3)}, "k2x4s2x3d3x2"),
        (3, {"bias": False}, "k3_no_bias"),
        (3, {"ceil_mode": True, "divisor_override": 5}, "k3_ceil_mode_divisor_override5"),
        (3, {"groups": 2, "output_padding": 1}, "k3o1g2"),
    ],
)
def test_a_geometry_has_a_short_name(kernel: Any, options: dict[str, Any], name: str) -> None:
    assert geometry_name(kernel, options) == name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Case("no-bias"), "name of a case is 'no-bias', but letters, digits"),
        (lambda: Spec(relu, ()), "cases of relu is empty, but an entry without cases checks nothing"),
        (lambda: Spec(relu, (CASE, CASE)), "cases of relu holds two of the name 'image', but names must differ"),
        (lambda: Spec(relu, (CASE,), name="a b"), "name of an entry is 'a b', but letters"),
        (lambda: Exemption("gradient", " "), "reason of the exemption from 'gradient' is ' ', but it must say why"),
        (
            lambda: Spec(relu, (CASE,), exemptions=(Exemption("gradient", "kink", cases=("picture",)),)),
            "an exemption of relu is for the case 'picture', but its cases are image",
        ),
        (lambda: trials_of([]), "catalogue is empty"),
        (lambda: trials_of([relu]), "catalogue holds <function relu.*each entry must be a Spec or an OptimizerSpec"),  # type: ignore[list-item]
        (lambda: trials_of([Spec(relu, (CASE,))] * 2), "catalogue holds two entries of the name 'relu'"),
        (lambda: trials_of([Spec(relu, (CASE,))], checks=["gradeint"]), "checks holds 'gradeint', but the known ones"),
        (lambda: trials_of([Spec(relu, (CASE,))], checks=["value"], gpu=False), r"checks is \['value'\], but none"),
        (
            lambda: trials_of([Spec(relu, (CASE,), exemptions=(Exemption("copeis", "late"),))]),
            "an exemption of relu is from 'copeis', but the known checks are value",
        ),
        (
            lambda: trials_of([Spec(relu, (CASE,), exemptions=(Exemption("value", "late"),))], gpu=False),
            "an exemption of relu is from 'value', but it has no such trial",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_an_exempted_contract_has_a_trial_of_its_own() -> None:
    spec = Spec(relu, (CASE, Case("other", ((4,),))), exemptions=(Exemption("copies", "late", cases=("image",)),))
    trials = {trial.name: trial for trial in trials_of([spec], gpu=False)}
    assert checks_of(trials["relu-image-float64-copies"]) == ("copies",)
    assert "copies" not in checks_of(trials["relu-image-float64-contracts"])
    assert "copies" in checks_of(trials["relu-other-float64-contracts"])
    assert "relu-other-float64-copies" not in trials


def test_checks_may_be_one_text() -> None:
    trials = trials_of([Spec(relu, (CASE,))], checks="gradient, complex_step", gpu=False)
    assert [trial.check for trial in trials] == ["gradient", "complex_step"]


def test_a_choice_of_checks_leaves_what_it_names() -> None:
    trial = Trial(Spec(relu, (CASE,)), CASE, "contracts", "float64")
    assert checks_of(trial, ["gradient", "copies"]) == ("copies",)
    assert (
        "copies" not in checks_of(trial, ["-copies"])
        and len(checks_of(trial, ["-copies"])) == len(checks_of(trial)) - 1
    )
    assert run_trial(trial, checks=["determinism"]).passed
    with pytest.raises(ArgumentError, match=r"checks=\['gradient'\] leaves nothing of relu-image-float64-contracts"):
        run_trial(trial, checks=["gradient"])
    with pytest.raises(ArgumentError, match="checks='gradeint' should be among"):
        checks_of(trial, ["gradeint"])


class Drawing:
    """A class that draws with each of the generators of a process."""

    def __init__(self, **options: Any) -> None:
        self.drawn = float(torch.rand(())), float(np.random.rand())
        self.options = options


def test_a_subject_is_the_same_under_the_same_seed_and_the_generators_go_on() -> None:
    spec = Spec(Drawing, (CASE,))
    torch.manual_seed(3)
    np.random.seed(3)
    expected = float(torch.rand(())), float(np.random.rand())
    torch.manual_seed(3)
    np.random.seed(3)
    first, again, other = build(spec, CASE), build(spec, CASE), build(spec, CASE, seed=1)
    assert first.drawn == again.drawn != other.drawn
    assert first.options == {}  # nothing that its constructor does not name
    assert (float(torch.rand(())), float(np.random.rand())) == expected


def test_a_constructor_is_handed_dtype_and_generator_through_its_bases() -> None:
    for entry in LAYERS:
        if entry.subject in (nn.Conv2d, nn.TransposeConv2d, nn.Linear):
            weight = build(entry, entry.cases[0]).weight
            assert weight.dtype == torch.float64
            assert not torch.equal(weight, weight.float().double())  # drawn in float64, not in float32


def test_an_object_is_copied_so_that_no_trial_sees_another() -> None:
    module = torch.nn.Linear(3, 2)
    made = build(Spec(module, (CASE,)), CASE)
    assert made is not module and module.weight.dtype == torch.float32 and made.weight.dtype == torch.float64


def test_inputs_keep_away_from_kinks() -> None:
    wide = Case("wide", ((40, 2),))
    near = prepare(Spec(relu, (wide,)), wide).inputs[0]

    def to_first(subject: Any, x: Tensor) -> Tensor:
        return (x - near[0, 0]).abs()

    clear = prepare(Spec(relu, (wide,), kinks=to_first), wide).inputs[0]
    assert float(to_first(relu, clear).min()) > 1e-3 > float(to_first(relu, near).min())
    every = [(s, c) for s in LAYERS for c in s.cases if s.kinks is not None]
    for spec, case in every:
        prepared = prepare(spec, case)
        assert spec.kinks is not None
        assert float(spec.kinks(prepared.subject, *prepared.inputs).min()) > 1e-4, (spec.name, case.name)


@pytest.mark.parametrize("dtype", ["float64", "float32", "tf32"])
@pytest.mark.parametrize("spec", LAYERS, ids=lambda spec: spec.name)
def test_without_a_reference_a_subject_is_compared_with_itself(spec: Spec, dtype: str) -> None:
    # As on a GPU, but on the CPU: what runs there can be tried here too, TF32's bound included.
    alone = replace(spec, reference=None, twin=None, variants={})
    for check in ("value", "input_gradient"):
        assert run_trial(Trial(alone, spec.cases[0], check, dtype)).passed
        assert run_trial(Trial(spec, spec.cases[0], check, dtype)).passed


class Leaky(torch.nn.Module):
    def __init__(self, negative_slope: float, scale: float = 1.0) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.scale = SimpleNamespace(value=scale)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x.where(x > 0, self.negative_slope * x) * self.scale.value
        return y


LEAKY_RELU = torch.nn.functional.leaky_relu
LEAKY_CASE = Case("steep", ((4, 3),), (0.3,))


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"reference": lambda subject, parameters, x: LEAKY_RELU(x, subject.negative_slope)}, True),
        ({"reference": lambda subject, parameters, x: LEAKY_RELU(x)}, False),
        ({"twin": torch.nn.LeakyReLU}, True),
        ({"twin": torch.nn.LeakyReLU, "attributes": {"negative_slope": "scale.value"}}, False),
        ({"twin": torch.nn.ReLU}, False),
        ({"twin": torch.nn.ReLU, "reference": lambda subject, parameters, x: LEAKY_RELU(x, 0.3)}, True),
    ],
)
def test_a_reference_is_called_with_the_subject_or_is_its_twin(options: dict[str, Any], right: bool) -> None:
    assert run_trial(Trial(Spec(Leaky, (LEAKY_CASE,), **options), LEAKY_CASE, "value", "float64")).passed == right


class Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        slopes = ctx.slopes = torch.ones_like(x).where(x > 0, slope)
        return x * slopes

    @staticmethod
    def backward(ctx: Any, *g: Any) -> tuple[Any, ...]:
        return g[0] * ctx.slopes, None


def test_a_function_of_torch_is_called_with_the_options_of_the_subject_or_of_the_case() -> None:
    softmax = next(spec for spec in LAYERS if spec.subject is nn.Softmax)
    for spec, case in ((softmax, softmax.cases[1]), (Spec(Threshold, (LEAKY_CASE,), LEAKY_RELU), LEAKY_CASE)):
        assert run_trial(Trial(spec, case, "value", "float64")).passed


def test_a_twin_leaves_running_statistics_alone() -> None:
    spec = next(spec for spec in LAYERS if spec.subject is nn.BatchNorm2d)
    layer = build(spec, spec.cases[0])
    before = {name: tensor.clone() for name, tensor in layer.buffers().items()}
    assert spec.reference is not None
    expected = spec.reference(layer, layer.parameters(), x := torch.randn(4, 3, 5, 4, dtype=torch.float64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.buffers().items())
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("times", [1e3, 1e-3])
def test_the_bound_of_the_value_is_some_roundings(dtype: str, times: float) -> None:
    eps = float(torch.finfo(getattr(torch, dtype)).eps)

    def off(x: Tensor) -> Tensor:
        return x.sin() * (1 + (100 if times > 1 else 1) * eps)

    spec = Spec(off, (CASE,), lambda subject, parameters, x: x.sin())
    assert run_trial(Trial(spec, CASE, "value", dtype)).passed == (times < 1)


def test_tf32_is_allowed_more_than_float32_and_not_more_than_its_digits_lose() -> None:
    def product(x: Tensor) -> Tensor:  # with factors of 10 bits
        scale = 2.0**10
        exponent = x.abs().log2().floor().exp2()
        return ((x / exponent * scale).round() / scale * exponent).square().sum(-1)

    case = Case("wide", ((5, 300),))
    spec = Spec(product, (case,), lambda subject, parameters, x: x.square().sum(-1))
    assert not run_trial(Trial(spec, case, "value", "float32")).passed
    report = run_trial(Trial(spec, case, "value", "tf32"))
    assert report.passed and report.results[0].resolution is not None and report.results[0].resolution < 0.1


def test_the_settings_of_products_are_restored() -> None:
    conv, matmul = import_module("torch.backends.cudnn").conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision

    def fail(*, tf32: bool) -> None:
        with tensor_cores(tf32=tf32):
            assert {conv.fp32_precision, matmul.fp32_precision} == {"tf32" if tf32 else "ieee"}
            raise KeyError

    for tf32 in (True, False):
        with pytest.raises(KeyError):
            fail(tf32=tf32)
        assert (conv.fp32_precision, matmul.fp32_precision) == before


class Drifting(torch.optim.SGD):
    """Off by a relative 1e-11 in one step of a hundred."""

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 60:
            with torch.no_grad():
                self.param_groups[0]["params"][1].mul_(1 + 1e-11)


def test_an_optimizer_that_leaves_the_path_is_told_the_step() -> None:
    case = Case("momentum", options={"lr": 0.1, "momentum": 0.9})
    right, wrong = (
        run_trial(Trial(OptimizerSpec(made, (case,), torch.optim.SGD), case, "trajectory", "float64"))
        for made in (torch.optim.SGD, Drifting)
    )
    assert right.passed
    assert [str(result).split(";")[1] for result in wrong.results if result.verdict.value == "wrong"] == [
        " leaves the path of the reference in step 60"
    ]


def test_every_entry_can_be_told_by_its_name() -> None:
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)
