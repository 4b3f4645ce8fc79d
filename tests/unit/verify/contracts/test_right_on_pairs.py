"""No contract check finds fault with a right pair of NumPy functions, as courses have students write them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.derivative.gradients import check_gradient
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import Verdict
from nn_from_scratch.verify.subjects import as_subject

Array = np.ndarray[Any, np.dtype[np.float64]]
RNG = np.random.default_rng(1)


def affine(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    return x.reshape(x.shape[0], -1) @ w + b, (x, w)


def affine_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    x, w = cache
    return (dy @ w.T).reshape(x.shape), x.reshape(x.shape[0], -1).T @ dy, dy.sum(axis=0)


def relu(x: Array) -> tuple[Array, Array]:
    return np.maximum(0, x), x


def relu_backward(dy: Array, cache: Array) -> Array:
    return dy * (cache > 0)


def softmax_loss(x: Array, t: Any) -> tuple[Any, Any]:
    z = np.exp(x - x.max(axis=1, keepdims=True))
    p = z / z.sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(t)), t]).mean(), (p, t)


def softmax_loss_backward(dy: Array, cache: Any) -> tuple[Array, None]:
    p, t = cache
    dx = p.copy()
    dx[np.arange(len(t)), t] -= 1
    return dy * dx / len(t), None


def batch_norm(x: Array, gamma: Array, beta: Array) -> tuple[Array, Any]:
    deviation = np.sqrt(x.var(axis=0) + 1e-5)
    y = (x - x.mean(axis=0)) / deviation
    return gamma * y + beta, (y, gamma, deviation)


def batch_norm_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    y, gamma, deviation = cache
    g = gamma * dy
    dx = (g - g.mean(axis=0) - y * (g * y).mean(axis=0)) / deviation
    return dx, (dy * y).sum(axis=0), dy.sum(axis=0)


def max_pool(x: Array) -> tuple[Array, Any]:
    n, c, h, w = x.shape
    windows = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    return windows.max(axis=-1), (x.shape, windows.argmax(axis=-1))


def max_pool_backward(dy: Array, cache: Any) -> Array:
    (n, c, h, w), which = cache
    windows = np.zeros((*which.shape, 4), dtype=dy.dtype)
    np.put_along_axis(windows, which[..., None], dy[..., None], axis=-1)
    dx: Array = windows.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)
    return dx


def convolution(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    n, _, h, width = x.shape
    f, _, k, _ = w.shape
    y = np.zeros((n, f, h - k + 1, width - k + 1), dtype=x.dtype)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            y[:, :, i, j] = np.tensordot(x[:, :, i : i + k, j : j + k], w, axes=([1, 2, 3], [1, 2, 3])) + b
    return y, (x, w)


def convolution_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    x, w = cache
    k = w.shape[2]
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            dx[:, :, i : i + k, j : j + k] += np.tensordot(dy[:, :, i, j], w, axes=([1], [0]))
            dw += np.tensordot(dy[:, :, i, j], x[:, :, i : i + k, j : j + k], axes=([0], [0]))
    return dx, dw, dy.sum(axis=(0, 2, 3))


def step(x: Array, h: Array, wx: Array, wh: Array) -> tuple[Array, Any]:
    y = np.tanh(x @ wx + h @ wh)
    return y, (x, h, wx, wh, y)


def step_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array, Array]:
    x, h, wx, wh, y = cache
    da = dy * (1 - y**2)
    return da @ wx.T, da @ wh.T, x.T @ da, h.T @ da


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@dataclass(frozen=True)
class Pair:
    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: tuple[Any, ...]


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape)


PAIRS = [
    Pair("affine", affine, affine_backward, (normal(4, 2, 3), normal(6, 5), normal(5))),
    Pair("relu", relu, relu_backward, (normal(4, 5),)),
    Pair("softmax loss", softmax_loss, softmax_loss_backward, (normal(4, 5), np.array([0, 2, 1, 4]))),
    Pair("batch norm", batch_norm, batch_norm_backward, (normal(6, 3), normal(3), normal(3))),
    Pair("max pool", max_pool, max_pool_backward, (normal(2, 2, 4, 4),)),
    Pair("convolution", convolution, convolution_backward, (normal(2, 2, 5, 5), normal(3, 2, 3, 3), normal(3))),
    Pair("recurrent step", step, step_backward, (normal(4, 3), normal(4, 2), normal(3, 2), normal(2, 2))),
    Pair("add", lambda a, b: (a + b, None), lambda dy, cache: (dy, dy), (normal(4, 5), normal(4, 5))),
    Pair("reshape", lambda x: (x.reshape(-1), x.shape), lambda dy, shape: dy.reshape(shape), (normal(4, 5),)),
    Pair("sum", lambda x: (x.sum(), x.shape), lambda dy, shape: np.full(shape, dy), (normal(4, 5),)),
    Pair("float32", relu, relu_backward, (normal(4, 5).astype(np.float32),)),
]


def not_right(subject: Subject) -> list[str]:
    found = [result for check in (check_gradient, *CONTRACTS.values()) for result in check(subject, CheckContext())]
    return [str(result) for result in found if result.verdict in (Verdict.WRONG, Verdict.FRAGILE, Verdict.UNDECIDED)]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_right_pair_is_not_wrong(pair: Pair) -> None:
    subject = as_subject((pair.forward, pair.backward), *pair.inputs)
    assert not_right(subject) == []


def test_a_pair_without_a_cache_is_not_wrong() -> None:
    state: list[Array] = []

    def forward(x: Array) -> Array:
        state[:] = [sigmoid(x)]
        return state[0]

    subject = as_subject((forward, lambda dy: dy * state[0] * (1 - state[0])), normal(4, 5))
    assert not_right(subject) == []
