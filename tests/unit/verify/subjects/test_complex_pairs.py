"""Complex subjects: right ones of every form and kind are correct, wrong ones are found and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nn_from_scratch.verify import check
from nn_from_scratch.verify.results import Verdict
from nn_from_scratch.verify.subjects import as_subject
from nn_from_scratch.verify.subjects.complex_pairs import NOTE, complex_of
from tests.functions import draw, function

X = draw(3, 4, seed=4)
Z, W = torch.complex(draw(3, 4), draw(3, 4, seed=1)), torch.complex(draw(3, 4, seed=2), draw(3, 4, seed=3))


def product(dz: Callable[..., Tensor], dw: Callable[..., Tensor]) -> Any:
    return function(torch.mul, lambda g, z, w: (dz(g, z, w), dw(g, z, w)))


def squared_size(z: Tensor) -> Tensor:
    return (z * z.conj()).real


def phase(x: Tensor) -> Tensor:
    return torch.exp(1j * x)


RIGHT: dict[str, tuple[Any, tuple[Tensor, ...]]] = {
    "complex to complex": (product(lambda g, z, w: g * w.conj(), lambda g, z, w: g * z.conj()), (Z, W)),
    "complex to real": (function(squared_size, lambda g, z: 2 * g * z), (Z,)),
    "real to complex": (function(phase, lambda g, x: (g * (1j * phase(x)).conj()).real), (X,)),
    "complex and real": (function(torch.mul, lambda g, z, x: (g * x, (g * z.conj()).real)), (Z, X)),
    "analytic": (function(torch.exp, lambda g, z: g * z.exp().conj()), (Z,)),
    "complex64": (function(torch.exp, lambda g, z: g * z.exp().conj()), (Z.to(torch.complex64),)),
    "a scalar": (function(torch.exp, lambda g, z: g * z.exp().conj()), (Z[0, 0],)),
    "conjugate view": (function(torch.exp, lambda g, z: g * z.exp().conj()), (Z.conj(),)),
    "transposed": (function(torch.exp, lambda g, z: g * z.exp().conj()), (Z.T,)),
    "sine": (torch.sin, (Z,)),
    "absolute value": (torch.abs, (Z,)),
    "Fourier transform": (torch.fft.fft, (X,)),
    "inverse Fourier transform": (torch.fft.ifft, (Z,)),
    "singular values": (torch.linalg.svdvals, (Z,)),
    "matrix product": (lambda z, w: z @ w.mH, (Z, W)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_complex_subject_is_correct(name: str) -> None:
    subject, inputs = RIGHT[name]
    report = check(subject, *inputs)
    assert report.verdict is Verdict.CORRECT, str(report)
    assert NOTE in report.notes
    looked_at = {result.tensor for result in report.results if result.check == "gradient"}
    assert len(looked_at) == len(inputs)


@pytest.mark.parametrize(
    ("subject", "inputs", "tensor", "kind"),
    [
        (product(lambda g, z, w: g * w, lambda g, z, w: g * z.conj()), (Z, W), "z", "conjugate-missing"),
        (function(phase, lambda g, x: (g * 1j * phase(x)).real), (X,), "x", "conjugate-missing"),
        (function(squared_size, lambda g, z: 2 * g * z.conj()), (Z,), "z", "conjugated"),
        (function(squared_size, lambda g, z: g * z), (Z,), "z", "factor"),
        (function(torch.exp, lambda g, z: -g * z.exp().conj()), (Z,), "z", "sign"),
        (function(torch.exp, lambda g, z: (g * z.exp().conj()).real + 0j), (Z,), "z", "imaginary-part-missing"),
        (function(torch.exp, lambda g, z: 1j * (g * z.exp().conj()).imag), (Z,), "z", "real-part-missing"),
        (function(torch.exp, lambda g, z: 1j * g * z.exp().conj()), (Z,), "z", "times-i"),
        (function(torch.exp, lambda g, z: -1j * g * z.exp().conj()), (Z,), "z", "times-minus-i"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_complex_gradient_is_named(subject: Any, inputs: Any, tensor: str, kind: str) -> None:
    found = [r for r in check(subject, *inputs, checks="gradient").results if r.verdict is Verdict.WRONG]
    assert [(result.tensor, result.details.get("diagnosis_kind")) for result in found] == [(tensor, kind)]


def test_a_missing_factor_is_not_explained_by_the_number_of_parts() -> None:
    report = check(function(squared_size, lambda g, z: g * z), Z, checks="gradient")
    assert report.results[0].diagnosis == "The gradient of 'z' is too small by a factor of 2."


def test_a_pair_of_numpy_functions() -> None:
    def backward(g: Any, z: Any, w: Any) -> Any:
        return g * np.conj(w), g * np.conj(z)

    assert check((np.multiply, backward), Z.numpy(), W.numpy(), names=["z", "w"]).verdict is Verdict.CORRECT
    wrong = check((np.multiply, lambda g, z, w: (g * w, g * z)), Z.numpy(), W.numpy(), names=["z", "w"])
    assert {r.tensor for r in wrong.results if r.check == "gradient" and r.verdict is Verdict.WRONG} == {"z", "w"}


class Weighted(nn.Module):
    """A complex parameter and a complex buffer."""

    shift: Tensor

    def __init__(self, apply: Callable[..., Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(W.clone())
        self.register_buffer("shift", torch.complex(draw(4, seed=5), draw(4, seed=6)))
        self.apply_function = apply

    def forward(self, z: Tensor) -> Tensor:
        return self.apply_function(z, self.weight) + self.shift


def test_complex_parameters_of_a_module() -> None:
    right = check(Weighted(torch.mul), Z)
    assert right.verdict is Verdict.CORRECT, str(right)
    assert {r.tensor for r in right.results if r.check == "gradient"} == {"z", "weight"}
    wrong = product(lambda g, z, w: g * w.conj(), lambda g, z, w: g * z)
    (found,) = (r for r in check(Weighted(wrong), Z, checks="gradient").results if r.verdict is Verdict.WRONG)
    assert (found.tensor, found.details["diagnosis_kind"]) == ("weight", "conjugate-missing")


def test_captured_complex_tensors_are_parameters() -> None:
    weight = W.clone().requires_grad_()
    report = check(lambda z: z * weight, Z)
    assert report.verdict is Verdict.CORRECT, str(report)
    assert {r.tensor for r in report.results if r.check == "gradient"} == {"z", "weight"}


@pytest.mark.parametrize("name", ["second_order", "forward_mode", "vmap", "functional"])
def test_transforms_of_complex_subjects(name: str) -> None:
    class Exp(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(z: Tensor) -> Tensor:
            return z.exp()

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(output)
            ctx.save_for_forward(output)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            gradient: Tensor = g * ctx.saved_tensors[0].conj()
            return gradient

        @staticmethod
        def jvp(ctx: Any, dz: Tensor) -> Tensor:
            tangent: Tensor = dz * ctx.saved_tensors[0]
            return tangent

    class WrongTangent(Exp):
        @staticmethod
        def jvp(ctx: Any, dz: Tensor) -> Tensor:
            tangent: Tensor = dz * ctx.saved_tensors[0].conj()
            return tangent

    assert check(Exp, Z, checks=name).verdict is Verdict.CORRECT
    assert check(WrongTangent, Z, checks=name).failed is (name == "forward_mode")


def test_constants_stay_complex() -> None:
    report = check(lambda x, z: x * z.abs(), X.clone().requires_grad_(), Z)
    assert report.verdict is Verdict.CORRECT, str(report)
    assert {r.tensor for r in report.results if r.check == "gradient"} == {"x"}


@pytest.mark.parametrize("pairs", [draw(3, 3), draw(3, 2).to(torch.bfloat16)])
def test_what_are_no_pairs_is_refused(pairs: Tensor) -> None:
    subject = as_subject(torch.exp, Z)
    with pytest.raises(Exception, match="is complex, and there are no complex numbers"):
        subject.forward({subject.operands[0].name: pairs})


def test_pairs_lie_on_the_same_memory_where_they_can() -> None:
    pairs = draw(3, 2)
    assert complex_of(pairs, "z", "f").data_ptr() == pairs.data_ptr()
    expanded = draw(3, 1).expand(3, 2)
    assert torch.equal(complex_of(expanded, "z", "f").real, expanded[:, 0])
