"""Differentiable functions of torch whose backward is right, on which no check may raise a false alarm: data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Draw = str
DRAWS: tuple[Draw, ...] = ("random", "tied", "near ties")


@dataclass(frozen=True)
class Case:
    """A function with the shapes of its inputs, and a map into its domain."""

    name: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    domain: Callable[[Tensor], Tensor] | None = None
    smooth_draws: bool = False


def draw_inputs(case: Case, seed: int, scale: float, draw: Draw) -> list[Tensor]:
    """Draw inputs: normal ones, ones with many ties and zeros, or ones that nearly tie."""
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for shape in case.shapes:
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        if draw != "random" and not case.smooth_draws:
            x = (2 * x).round() / 2
        if draw == "near ties" and not case.smooth_draws:
            x = x + 1e-9 * torch.randn(shape, generator=generator, dtype=torch.float64)
        x = x * scale
        inputs.append(x if case.domain is None else case.domain(x))
    return inputs


def _positive(x: Tensor) -> Tensor:
    return x.abs() + 0.05 * x.abs().mean() + 1e-300


def _inside(x: Tensor) -> Tensor:
    return 0.95 * x / (1 + x.abs())


def unit(x: Tensor) -> Tensor:
    return 0.02 + 0.96 * torch.sigmoid(x.clamp(-4, 4))


def _above_one(x: Tensor) -> Tensor:
    return 1.01 + x.abs()


def _spd(a: Tensor) -> Tensor:
    scale = a.abs().mean() + 1e-300
    return a @ a.mT / scale + scale * torch.eye(a.shape[-1], dtype=a.dtype)


def _well(a: Tensor) -> Tensor:
    return a + 3 * (a.abs().mean() + 1e-300) * torch.eye(a.shape[-1], dtype=a.dtype)


_TARGET = torch.tensor([1, 0, 3, 2])
_INDEX = torch.tensor([[2, 0, 1], [0, 0, 2]])
_E = (4, 6)


# Left out, because torch's own backward is inexact there: hardsigmoid (1/6 is rounded to float32, also in float64),
# sinc near 0 (cancellation), gaussian_nll_loss and cosine_similarity below their eps (autograd does not see the clamp).
def _elementwise() -> list[Case]:
    plain: dict[str, Callable[..., Tensor]] = {
        "relu": torch.relu,
        "relu6": F.relu6,
        "leaky_relu": F.leaky_relu,
        "elu": F.elu,
        "selu": F.selu,
        "celu": F.celu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
        "mish": F.mish,
        "softplus": F.softplus,
        "softsign": F.softsign,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "logsigmoid": F.logsigmoid,
        "hardtanh": F.hardtanh,
        "hardswish": F.hardswish,
        "hardshrink": F.hardshrink,
        "softshrink": F.softshrink,
        "tanhshrink": F.tanhshrink,
        "threshold": lambda x: F.threshold(x, 0.1, 20.0),
        "abs": torch.abs,
        "clamp": lambda x: x.clamp(-0.5, 0.5),
        "exp": torch.exp,
        "expm1": torch.expm1,
        "sin": torch.sin,
        "cos": torch.cos,
        "atan": torch.atan,
        "sinh": torch.sinh,
        "erf": torch.erf,
        "erfc": torch.erfc,
        "square": torch.square,
        "cube": lambda x: x**3,
        "floor": torch.floor,
        "logaddexp": lambda x: torch.logaddexp(x, 0.5 * x.flip(0)),
        "masked_fill": lambda x: x.masked_fill(x > 0, 1.0),
    }
    cases = [Case(name, function, (_E,)) for name, function in plain.items()]
    positive: dict[str, Callable[..., Tensor]] = {
        "log": torch.log,
        "log1p": torch.log1p,
        "sqrt": torch.sqrt,
        "rsqrt": torch.rsqrt,
        "reciprocal": torch.reciprocal,
        "pow": lambda x: x**0.3,
        "xlogx": lambda x: torch.xlogy(x, x),
        "lgamma": lambda x: torch.lgamma(x.clamp(max=50.0)),
    }
    cases += [Case(name, function, (_E,), _positive) for name, function in positive.items()]
    cases += [
        Case("asin", torch.asin, (_E,), _inside),
        Case("acos", torch.acos, (_E,), _inside),
        Case("atanh", torch.atanh, (_E,), _inside),
        Case("erfinv", torch.erfinv, (_E,), _inside),
        Case("acosh", torch.acosh, (_E,), _above_one),
        Case("logit", torch.logit, (_E,), unit),
    ]
    return cases


def _binary() -> list[Case]:
    return [
        Case("add_broadcast", lambda x, y: x + 2 * y, (_E, (6,))),
        Case("mul_broadcast", lambda x, y: x * y, (_E, (4, 1))),
        Case("div", lambda x, y: x / y, (_E, _E), lambda x: _positive(x) * torch.where(x < 0, -1.0, 1.0)),
        Case("maximum", torch.maximum, (_E, _E)),
        Case("minimum", torch.minimum, (_E, _E)),
        Case("hypot", torch.hypot, (_E, _E), _positive),
        Case("atan2", torch.atan2, (_E, _E), _positive),
        Case("lerp", lambda x, y, w: torch.lerp(x, y, w), (_E, _E, _E)),
        Case("where", lambda x, y: torch.where(x > 0, x, y), (_E, _E)),
        Case("prelu", lambda x, w: F.prelu(x, w), ((3, 4, 5), (4,))),
        Case("glu", F.glu, (_E,)),
        Case("outer", torch.outer, ((5,), (4,))),
        Case("matmul", torch.matmul, ((4, 5), (5, 3))),
        Case("bmm", torch.bmm, ((2, 3, 4), (2, 4, 3))),
        Case("einsum", lambda x, y: torch.einsum("bij,bjk->bik", x, y), ((2, 3, 4), (2, 4, 3))),
        Case("cdist", torch.cdist, ((4, 3), (5, 3)), smooth_draws=True),
        Case("cosine_similarity", lambda x, y: F.cosine_similarity(x, y, eps=1e-40), (_E, _E), smooth_draws=True),
        Case("bilinear", F.bilinear, ((4, 3), (4, 2), (5, 3, 2))),
    ]


def _layers() -> list[Case]:
    return [
        Case("linear", F.linear, ((5, 6), (4, 6), (4,))),
        Case("conv1d", F.conv1d, ((2, 3, 9), (4, 3, 3), (4,))),
        Case("conv2d", lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), ((2, 3, 7, 6), (4, 3, 3, 2), (4,))),
        Case("conv2d_groups", lambda x, w: F.conv2d(x, w, groups=2, dilation=2), ((2, 4, 6, 6), (4, 2, 2, 2))),
        Case("conv3d", F.conv3d, ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2))),
        Case("conv_transpose2d", lambda x, w: F.conv_transpose2d(x, w, stride=2), ((2, 3, 4, 4), (3, 2, 3, 3))),
        Case("max_pool1d", lambda x: F.max_pool1d(x, 3, 2), ((2, 3, 9),)),
        Case("max_pool2d", lambda x: F.max_pool2d(x, 2), ((2, 3, 6, 6),)),
        Case("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1), ((2, 3, 7, 7),)),
        Case("lp_pool2d", lambda x: F.lp_pool2d(x, 3.0, 2), ((2, 3, 6, 6),), _positive),
        Case("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 3), ((2, 3, 7, 7),)),
        Case("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 3), ((2, 3, 7, 7),)),
        Case("batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, True), ((6, 4, 3), (4,), (4,))),
        Case("layer_norm", lambda x, w, b: F.layer_norm(x, (8,), w, b), ((5, 8), (8,), (8,))),
        Case("group_norm", lambda x: F.group_norm(x, 2), ((3, 4, 5),)),
        Case("instance_norm", F.instance_norm, ((3, 4, 6),)),
        Case("rms_norm", lambda x, w: F.rms_norm(x, (8,), w), ((5, 8), (8,))),
        Case("local_response_norm", lambda x: F.local_response_norm(x, 3), ((2, 5, 4),)),
        Case("normalize", F.normalize, (_E,), smooth_draws=True),
        Case("softmax", lambda x: F.softmax(x, -1), (_E,)),
        Case("log_softmax", lambda x: F.log_softmax(x, -1), (_E,)),
        Case("softmin", lambda x: F.softmin(x, 0), (_E,)),
        Case("attention", F.scaled_dot_product_attention, ((2, 4, 3), (2, 5, 3), (2, 5, 3))),
        Case("embedding", lambda w: F.embedding(_INDEX, w), ((4, 3),)),
        Case("interpolate", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), ((1, 2, 4, 4),)),
        Case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), ((1, 4, 3, 3),)),
        Case("unfold", lambda x: F.unfold(x, 2), ((1, 2, 4, 4),)),
        Case("fold", lambda x: F.fold(x, (4, 4), 2), ((1, 8, 9),)),
        Case("pad_reflect", lambda x: F.pad(x, (1, 2), mode="reflect"), ((2, 3, 5),)),
    ]


def _losses() -> list[Case]:
    return [
        Case("mse_loss", F.mse_loss, (_E, _E)),
        Case("l1_loss", F.l1_loss, (_E, _E)),
        Case("smooth_l1_loss", F.smooth_l1_loss, (_E, _E)),
        Case("huber_loss", F.huber_loss, (_E, _E)),
        Case("cross_entropy", lambda x: F.cross_entropy(x, _TARGET), (_E,)),
        Case("nll_loss", lambda x: F.nll_loss(x, _TARGET), (_E,)),
        Case(
            "kl_div",
            lambda x: F.kl_div(F.log_softmax(x, -1), torch.full(_E, 1 / 6, dtype=x.dtype), reduction="batchmean"),
            (_E,),
        ),
        Case("bce", lambda x: F.binary_cross_entropy(x, torch.full(_E, 0.3, dtype=x.dtype)), (_E,), unit),
        Case(
            "bce_with_logits",
            lambda x: F.binary_cross_entropy_with_logits(x, torch.full(_E, 0.3, dtype=x.dtype)),
            (_E,),
        ),
        Case("soft_margin_loss", lambda x: F.soft_margin_loss(x, torch.ones(_E, dtype=x.dtype)), (_E,)),
        Case("margin_ranking", lambda x, y: F.margin_ranking_loss(x, y, torch.ones(4, dtype=x.dtype)), ((4,), (4,))),
        Case("multi_margin_loss", lambda x: F.multi_margin_loss(x, _TARGET), (_E,)),
        Case("triplet_margin", F.triplet_margin_loss, (_E, _E, _E), smooth_draws=True),
        Case("gaussian_nll", lambda x, y, v: F.gaussian_nll_loss(x, y, v), (_E, _E, _E), _above_one),
    ]


def _reductions() -> list[Case]:
    return [
        Case("sum", lambda x: x.sum(0), (_E,)),
        Case("mean", torch.mean, (_E,)),
        Case("prod", lambda x: x.prod(-1), (_E,)),
        Case("var", lambda x: x.var(-1), (_E,)),
        Case("std", lambda x: x.std(-1), (_E,), smooth_draws=True),
        Case("norm", lambda x: torch.linalg.vector_norm(x, dim=-1), (_E,)),
        Case("norm1", lambda x: torch.linalg.vector_norm(x, 1, dim=-1), (_E,)),
        Case("norm_inf", lambda x: torch.linalg.vector_norm(x, float("inf"), dim=-1), (_E,)),
        Case("logsumexp", lambda x: torch.logsumexp(x, -1), (_E,)),
        Case("amax", lambda x: x.amax(-1), (_E,)),
        Case("amin", lambda x: x.amin(0), (_E,)),
        Case("max", lambda x: x.max(-1).values, (_E,)),
        Case("median", lambda x: x.median(-1).values, ((4, 7),)),
        Case("sort", lambda x: x.sort(-1).values, (_E,)),
        Case("topk", lambda x: x.topk(3, -1).values, (_E,)),
        Case("kthvalue", lambda x: x.kthvalue(2, -1).values, (_E,)),
        Case("cumsum", lambda x: x.cumsum(-1), (_E,)),
        Case("cumprod", lambda x: x.cumprod(-1), (_E,)),
        Case("cummax", lambda x: x.cummax(-1).values, (_E,)),
        Case("logcumsumexp", lambda x: x.logcumsumexp(-1), (_E,)),
    ]


def _indexing() -> list[Case]:
    return [
        Case("index_select", lambda x: x.index_select(1, torch.tensor([0, 0, 3])), (_E,)),
        Case("gather", lambda x: x.gather(1, _INDEX), ((2, 3),)),
        Case("scatter_add", lambda x: torch.zeros_like(x).scatter_add(1, _INDEX, x), ((2, 3),)),
        Case("advanced_index", lambda x: x[_INDEX[0], _INDEX[1]], (_E,)),
        Case("roll_flip", lambda x: x.roll(2, 1).flip(0), (_E,)),
        Case("tril", lambda x: x.tril().T, ((5, 5),)),
        Case("stack_cat", lambda x, y: torch.cat([torch.stack([x, y]), torch.stack([y, x])]), (_E, _E)),
        Case("diff", lambda x: x.diff(dim=-1), (_E,)),
        Case("index_add", lambda x, y: x.index_add(0, torch.tensor([1, 1, 0]), y), (_E, (3, 6))),
    ]


def _linear_algebra() -> list[Case]:
    return [
        Case("inv", lambda a: torch.linalg.inv(a), ((4, 4),), _well, True),
        Case("det", lambda a: torch.linalg.det(a), ((4, 4),), _well, True),
        Case("slogdet", lambda a: torch.linalg.slogdet(a).logabsdet, ((4, 4),), _well, True),
        Case("solve", lambda a, b: torch.linalg.solve(_well(a), b), ((4, 4), (4, 2)), None, True),
        Case("cholesky", lambda a: torch.linalg.cholesky(_spd(a)), ((4, 4),), None, True),
        Case("eigvalsh", lambda a: torch.linalg.eigvalsh(a + a.mT), ((4, 4),), None, True),
        Case("svdvals", lambda a: torch.linalg.svdvals(a), ((4, 3),), None, True),
        Case("qr", lambda a: torch.linalg.qr(a).R, ((4, 3),), None, True),
        Case("matrix_exp", lambda a: torch.linalg.matrix_exp(a.clamp(-3, 3)), ((4, 4),), None, True),
        Case("trace_power", lambda a: torch.linalg.matrix_power(a, 3).diagonal().sum(), ((4, 4),)),
        Case(
            "triangular",
            lambda a, b: torch.linalg.solve_triangular(_well(a).tril(), b, upper=False),
            ((4, 4), (4, 2)),
            None,
            True,
        ),
        Case("fft", lambda x: torch.fft.rfft(x).abs().square(), (_E,)),
    ]


CASES: tuple[Case, ...] = (
    *_elementwise(),
    *_binary(),
    *_layers(),
    *_losses(),
    *_reductions(),
    *_indexing(),
    *_linear_algebra(),
)
