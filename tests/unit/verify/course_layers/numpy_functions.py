"""Pairs of functions over NumPy arrays, `x_forward(...) -> (y, cache)` and `x_backward(dy, cache)`, as courses ask."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.unit.verify.course_layers.numpy_classes import Array


def affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    return x.reshape(len(x), -1) @ w + b, (x, w)


def affine_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    x, w = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)


def affine_backward_without_sum(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    dx, dw, _ = affine_backward(dout, cache)
    return dx, dw, dout.mean(axis=0)


def relu_forward(x: Array) -> tuple[Array, Any]:
    return np.maximum(0, x), x


def relu_backward(dout: Array, cache: Any) -> Array:
    return dout * (cache > 0)


def relu_backward_of_output(dout: Array, cache: Any) -> Array:
    return cache * (cache > 0)


def layernorm_forward(x: Array, gamma: Array, beta: Array) -> tuple[Array, Any]:
    std = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    normalized = (x - x.mean(axis=1, keepdims=True)) / std
    return gamma * normalized + beta, (normalized, std, gamma)


def layernorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    normalized, std, gamma = cache
    d = dout * gamma
    dx = d - d.mean(axis=1, keepdims=True) - normalized * (d * normalized).mean(axis=1, keepdims=True)
    return dx / std, (dout * normalized).sum(axis=0), dout.sum(axis=0)


def layernorm_backward_over_samples(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    normalized, std, gamma = cache
    d = dout * gamma
    dx = d - d.mean(axis=0, keepdims=True) - normalized * (d * normalized).mean(axis=0, keepdims=True)
    return dx / std, (dout * normalized).sum(axis=0), dout.sum(axis=0)


def layernorm_backward_without_scale(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    normalized, std, _ = cache
    return layernorm_backward(dout, (normalized, std, 1.0))


def conv_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """Stride 2, padding 1, by loops over the places of the kernel."""
    n, _, h, width = x.shape
    f, _, k, _ = w.shape
    rows, columns = 1 + (h + 2 - k) // 2, 1 + (width + 2 - k) // 2
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((n, f, rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = padded[:, :, 2 * i : 2 * i + k, 2 * j : 2 * j + k]
            out[:, :, i, j] = np.tensordot(window, w, ([1, 2, 3], [1, 2, 3])) + b
    return out, (padded, w)


def conv_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    padded, w = cache
    dpadded, dw, k = np.zeros_like(padded), np.zeros_like(w), w.shape[2]
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            rows, columns = slice(2 * i, 2 * i + k), slice(2 * j, 2 * j + k)
            dw += np.tensordot(dout[:, :, i, j], padded[:, :, rows, columns], (0, 0))
            dpadded[:, :, rows, columns] += np.tensordot(dout[:, :, i, j], w, (1, 0))
    return dpadded[:, :, 1:-1, 1:-1], dw, dout.sum(axis=(0, 2, 3))


def conv_backward_overwriting(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    padded, w = cache
    _, dw, db = conv_backward(dout, cache)
    dpadded, k = np.zeros_like(padded), w.shape[2]
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            dpadded[:, :, 2 * i : 2 * i + k, 2 * j : 2 * j + k] = np.tensordot(dout[:, :, i, j], w, (1, 0))
    return dpadded[:, :, 1:-1, 1:-1], dw, db


def conv_backward_flipped(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    dx, dw, db = conv_backward(dout, cache)
    return dx, dw[:, :, ::-1, ::-1].copy(), db


def dropout_forward(x: Array) -> tuple[Array, Any]:
    mask = (np.random.default_rng(3).random(x.shape) < 0.6) / 0.6
    return x * mask, mask


def dropout_backward(dout: Array, cache: Any) -> Array:
    return dout * cache


def dropout_backward_unscaled(dout: Array, cache: Any) -> Array:
    return dout * (cache > 0)


def rnn_step_forward(x: Array, h: Array, wx: Array, wh: Array, b: Array) -> tuple[Array, Any]:
    following = np.tanh(x @ wx + h @ wh + b)
    return following, (x, h, wx, wh, following)


def rnn_step_backward(dnext: Array, cache: Any) -> tuple[Array, ...]:
    x, h, wx, wh, following = cache
    d = dnext * (1 - following**2)
    return d @ wx.T, d @ wh.T, x.T @ d, h.T @ d, d.sum(axis=0)


def rnn_step_backward_exchanged(dnext: Array, cache: Any) -> tuple[Array, ...]:
    dx, dh, dwx, dwh, db = rnn_step_backward(dnext, cache)
    return dh, dx, dwx, dwh, db


def attention_forward(q: Array, k: Array, v: Array) -> tuple[Array, Any]:
    scores = q @ k.T / np.sqrt(q.shape[1])
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    a = e / e.sum(axis=1, keepdims=True)
    return a @ v, (q, k, v, a)


def attention_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    q, k, v, a = cache
    da = dout @ v.T
    ds = a * (da - (da * a).sum(axis=1, keepdims=True)) / np.sqrt(q.shape[1])
    return ds @ k, ds.T @ q, a.T @ dout


def attention_backward_unscaled(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    dq, dk, dv = attention_backward(dout, cache)
    root = np.sqrt(cache[0].shape[1])
    return dq * root, dk * root, dv


def logsumexp_forward(x: Array) -> tuple[Array, Any]:
    top = x.max(axis=1, keepdims=True)
    value = np.log(np.exp(x - top).sum(axis=1)) + top[:, 0]
    return value, (x, value)


def logsumexp_backward(dout: Array, cache: Any) -> Array:
    x, value = cache
    return np.exp(x - value[:, None]) * dout[:, None]
