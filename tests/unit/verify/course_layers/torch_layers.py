"""Layers over torch tensors in the ways of courses: classes with `param()`, autograd functions, modules around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tests.functions import draw


class Linear:
    """`param()` gives pairs of a value and its gradient, which backward adds to."""

    def __init__(self) -> None:
        self.weight, self.bias = draw(3, 4, seed=1), draw(3, seed=2)
        self.weight_gradient, self.bias_gradient = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self.input = x
        return x @ self.weight.T + self.bias

    def backward(self, gradwrtoutput: Tensor) -> Tensor:
        self.weight_gradient += gradwrtoutput.T @ self.input
        self.bias_gradient += gradwrtoutput.sum(0)
        return gradwrtoutput @ self.weight

    def param(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.weight, self.weight_gradient), (self.bias, self.bias_gradient)]


class LinearWithDoubledWeight(Linear):
    def backward(self, gradwrtoutput: Tensor) -> Tensor:
        self.weight_gradient += gradwrtoutput.T @ self.input
        return super().backward(gradwrtoutput)


class LinearFromFirstSample(Linear):
    def backward(self, gradwrtoutput: Tensor) -> Tensor:
        self.weight_gradient += torch.outer(gradwrtoutput[0], self.input[0])
        self.bias_gradient += gradwrtoutput.sum(0)
        return gradwrtoutput @ self.weight


class UnfoldConvolution:
    """A convolution as a matrix product of unfolded windows."""

    def __init__(self) -> None:
        self.weight, self.bias = draw(4, 3, 3, 3, seed=1), draw(4, seed=2)
        self.dweight, self.dbias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self.shape, self.columns = x.shape, F.unfold(x, 3, padding=1)
        y = self.weight.flatten(1) @ self.columns + self.bias[:, None]
        return y.view(len(x), 4, *x.shape[2:])

    def backward(self, dy: Tensor) -> Tensor:
        g = dy.flatten(2)
        self.dweight = (g @ self.columns.transpose(1, 2)).sum(0).view_as(self.weight)
        self.dbias = g.sum((0, 2))
        return F.fold(self.weight.flatten(1).T @ g, tuple(self.shape[2:]), 3, padding=1)


class UnfoldConvolutionBiasOfSamples(UnfoldConvolution):
    def backward(self, dy: Tensor) -> Tensor:
        dx = super().backward(dy)
        self.dbias = dy.mean((2, 3)).sum(0)
        return dx


class UpsampleNearest:
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def backward(self, dy: Tensor) -> Tensor:
        return 4 * F.avg_pool2d(dy, 2)


class UpsampleNearestAveraged(UpsampleNearest):
    def backward(self, dy: Tensor) -> Tensor:
        return F.avg_pool2d(dy, 2)


class GlobalAverage:
    def forward(self, x: Tensor) -> Tensor:
        self.shape = x.shape
        return x.mean((2, 3))

    def backward(self, dy: Tensor) -> Tensor:
        return dy[:, :, None, None].expand(self.shape) / (self.shape[2] * self.shape[3])


class GlobalAverageNotDivided(GlobalAverage):
    def backward(self, dy: Tensor) -> Tensor:
        return dy[:, :, None, None].expand(self.shape)


class Residual:
    """x + W relu(x); the gradient comes along both ways."""

    def __init__(self) -> None:
        self.w = draw(4, 4, seed=1)
        self.dw = torch.zeros_like(self.w)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x + x.clamp(min=0) @ self.w

    def backward(self, dy: Tensor) -> Tensor:
        self.dw = self.x.clamp(min=0).T @ dy
        return dy + (dy @ self.w.T) * (self.x > 0)


class ResidualWithoutShortcut(Residual):
    def backward(self, dy: Tensor) -> Tensor:
        return super().backward(dy) - dy


class NetworkOfLayers:
    """Layers in a list; the parameters of all of them as pairs."""

    def __init__(self) -> None:
        self.layers: list[Any] = [Linear(), Shift()]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Tensor) -> Tensor:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def param(self) -> list[tuple[Tensor, Tensor]]:
        return [pair for layer in self.layers for pair in layer.param()]


class Shift:
    """A learned shift, in front of a tanh."""

    def __init__(self) -> None:
        self.shift, self.gradient = draw(3, seed=5), torch.zeros(3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        self.y = (x + self.shift).tanh()
        return self.y

    def backward(self, dy: Tensor) -> Tensor:
        d = dy * (1 - self.y**2)
        self.gradient += d.sum(0)
        return d

    def param(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.shift, self.gradient)]


class ShiftWithoutTanh(Shift):
    def backward(self, dy: Tensor) -> Tensor:
        self.gradient += dy.sum(0)
        return dy * (1 - self.y**2)


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * (s + x * s * (1 - s))


class SwishHalf(Swish):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * x * s * (1 - s)


class Polynomial(torch.autograd.Function):
    """(5 x^3 - 3 x) / 2, a Legendre polynomial."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return 0.5 * (5 * x**3 - 3 * x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return g * 1.5 * (5 * x**2 - 1)


class PolynomialWithoutHalf(Polynomial):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return g * 3 * (5 * x**2 - 1)


class MatrixProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.T + b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return g @ w, g.T @ x, g.sum(0)


class MatrixProductMeanBias(MatrixProduct):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return g @ w, g.T @ x, g.mean(0)


class LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        y = x - x.logsumexp(-1, keepdim=True)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return g - y.exp() * g.sum(-1, keepdim=True)


class LogSoftmaxWithoutSum(LogSoftmax):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return g - y.exp() * g


class InPlaceReLU(torch.autograd.Function):
    """Right values, but the backward writes into the cotangent that it was handed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        g[x < 0] = 0
        return g


class Normalize(torch.autograd.Function):
    """x over its Euclidean norm, by rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        size = x.norm(dim=1, keepdim=True)
        y = x / size
        ctx.save_for_backward(y, size)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        y, size = ctx.saved_tensors
        return (g - y * (y * g).sum(1, keepdim=True)) / size


class NormalizeByConstant(Normalize):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g / ctx.saved_tensors[1]


class ScaledModule(torch.nn.Module):
    """A torch module around a custom function, with a parameter of its own."""

    def __init__(self, apply: Callable[..., Any]) -> None:
        super().__init__()
        self.apply_function = apply
        self.scale = torch.nn.Parameter(draw(4, seed=1))

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.apply_function(x * self.scale)
        return value
