"""Layers as classes over NumPy arrays, as in courses: right ones, and below each what goes wrong in it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any  # of float64; NumPy's own types give Any for every expression


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


class Affine:
    """Parameters and gradients as attributes, `self.input` kept."""

    def __init__(self, inputs: int = 4, outputs: int = 3) -> None:
        self.W, self.b = drawn(inputs, outputs, seed=1), drawn(outputs, seed=2)
        self.dW, self.db = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, x: Array) -> Array:
        self.input = x
        return x @ self.W + self.b

    def backward(self, dout: Array) -> Array:
        self.dW, self.db = self.input.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T


class AffineWithBatchMean(Affine):
    def backward(self, dout: Array) -> Array:
        dx = super().backward(dout)
        self.dW /= len(dout)
        return dx


class AffineWithUnsummedBias(Affine):
    def backward(self, dout: Array) -> Array:
        dx = super().backward(dout)
        self.db = dout[0]
        return dx


class AffineWithNegativeBias(Affine):
    def backward(self, dout: Array) -> Array:
        dx = super().backward(dout)
        self.db = -self.db
        return dx


class SquareAffine(Affine):
    """As many outputs as inputs, so that a forgotten transposition has the right shape."""

    def __init__(self) -> None:
        super().__init__(3, 3)


class SquareAffineTransposed(SquareAffine):
    def backward(self, dout: Array) -> Array:
        super().backward(dout)
        return dout @ self.W


class Dictionaries:
    """Parameters and gradients in dictionaries of the same keys."""

    def __init__(self) -> None:
        self.params = {"W": drawn(4, 3, seed=1), "b": drawn(3, seed=2)}
        self.grads = {name: np.zeros_like(value) for name, value in self.params.items()}

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dout: Array) -> Array:
        self.grads["W"], self.grads["b"] = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.params["W"].T


class DictionariesHalved(Dictionaries):
    def backward(self, dout: Array) -> Array:
        dx = super().backward(dout)
        self.grads["W"] = self.grads["W"] / 2
        return dx


class Lists:
    """Parameters and gradients in two lists of the same order."""

    def __init__(self) -> None:
        self.params = [drawn(4, 3, seed=1), drawn(3, seed=2)]
        self.grads = [np.zeros_like(value) for value in self.params]

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dout: Array) -> Array:
        self.grads[0][...] = self.x.T @ dout
        self.grads[1][...] = dout.sum(axis=0)
        return dout @ self.params[0].T


class ListsWithZeroBias(Lists):
    def backward(self, dout: Array) -> Array:
        dx = super().backward(dout)
        self.grads[1][...] = 0
        return dx


class Tuples:
    """The parameters in one tuple, the gradients in another one, made anew by each backward."""

    def __init__(self) -> None:
        self.params = (drawn(4, 3, seed=1), drawn(3, seed=2))
        self.grads = (np.zeros((4, 3)), np.zeros(3))

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dout: Array) -> Array:
        self.grads = (self.x.T @ dout, dout.sum(axis=0))
        return dout @ self.params[0].T


class TuplesWithSignError(Tuples):
    def backward(self, dout: Array) -> Array:
        dx = super().backward(dout)
        self.grads = (-self.grads[0], self.grads[1])
        return dx


class ReLU:
    def forward(self, x: Array) -> Array:
        self.mask = x > 0
        return x * self.mask

    def backward(self, dout: Array) -> Array:
        return dout * self.mask


class ReLUWithoutMask(ReLU):
    def backward(self, dout: Array) -> Array:
        return dout


class ReLUOfCotangent(ReLU):
    def backward(self, dout: Array) -> Array:
        return dout * (dout > 0)


class Sigmoid:
    """The output kept instead of the input."""

    def forward(self, x: Array) -> Array:
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout * self.out * (1 - self.out)


class SigmoidWithoutCotangent(Sigmoid):
    def backward(self, dout: Array) -> Array:
        return self.out * (1 - self.out)


class SigmoidWithoutOne(Sigmoid):
    def backward(self, dout: Array) -> Array:
        return dout * self.out


class Tanh:
    def forward(self, x: Array) -> Array:
        self.out = np.tanh(x)
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout * (1 - self.out**2)


class TanhWithoutSquare(Tanh):
    def backward(self, dout: Array) -> Array:
        return dout * (1 - self.out)


class LeakyReLU:
    slope = 0.1

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.where(x > 0, x, self.slope * x)

    def backward(self, dout: Array) -> Array:
        return np.where(self.x > 0, dout, self.slope * dout)


class LeakyReLUZeroed(LeakyReLU):
    def backward(self, dout: Array) -> Array:
        return np.where(self.x > 0, dout, 0.0)


class Softmax:
    def forward(self, x: Array) -> Array:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = e / e.sum(axis=1, keepdims=True)
        return self.y

    def backward(self, dout: Array) -> Array:
        return self.y * (dout - (dout * self.y).sum(axis=1, keepdims=True))


class SoftmaxDiagonal(Softmax):
    def backward(self, dout: Array) -> Array:
        return dout * self.y * (1 - self.y)


class SoftmaxCrossEntropy:
    """Loss with integer labels; `backward` takes the cotangent with a default."""

    def forward(self, x: Array, t: Array) -> Any:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y, self.t = e / e.sum(axis=1, keepdims=True), t
        return -np.log(self.y[np.arange(len(t)), t]).mean()

    def backward(self, dout: float = 1.0) -> Array:
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dout * dx / len(self.t)


class SoftmaxCrossEntropyNotAveraged(SoftmaxCrossEntropy):
    def backward(self, dout: float = 1.0) -> Array:
        return super().backward(dout) * len(self.t)


class SoftmaxCrossEntropyWithoutTarget(SoftmaxCrossEntropy):
    def backward(self, dout: float = 1.0) -> Array:
        return dout * self.y / len(self.t)


class Embedding:
    """Rows of a table by index; rows that occur twice get two gradients."""

    def __init__(self) -> None:
        self.W = drawn(6, 3, seed=1)
        self.dW = np.zeros_like(self.W)

    def forward(self, index: Array) -> Array:
        self.index = index
        return self.W[index]

    def backward(self, dout: Array) -> None:
        self.dW = np.zeros_like(self.W)
        np.add.at(self.dW, self.index, dout)


class EmbeddingOverwritten(Embedding):
    def backward(self, dout: Array) -> None:
        self.dW = np.zeros_like(self.W)
        self.dW[self.index] = dout


class BatchNorm:
    def __init__(self) -> None:
        self.gamma, self.beta = 1 + 0.1 * drawn(3, seed=1), drawn(3, seed=2)
        self.dgamma, self.dbeta = np.zeros(3), np.zeros(3)

    def forward(self, x: Array) -> Array:
        self.std = np.sqrt(x.var(axis=0) + 1e-5)
        self.normalized = (x - x.mean(axis=0)) / self.std
        return self.gamma * self.normalized + self.beta

    def backward(self, dout: Array) -> Array:
        self.dgamma, self.dbeta = (dout * self.normalized).sum(axis=0), dout.sum(axis=0)
        d = dout * self.gamma
        return (d - d.mean(axis=0) - self.normalized * (d * self.normalized).mean(axis=0)) / self.std


class BatchNormOfConstants(BatchNorm):
    def backward(self, dout: Array) -> Array:
        super().backward(dout)
        return dout * self.gamma / self.std


class BatchNormWithoutVariance(BatchNorm):
    def backward(self, dout: Array) -> Array:
        super().backward(dout)
        d = dout * self.gamma
        return (d - d.mean(axis=0)) / self.std


class MaxPool:
    """Windows of two by two, by loops."""

    def forward(self, x: Array) -> Array:
        self.x = x
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))

    def backward(self, dout: Array) -> Array:
        dx = np.zeros_like(self.x)
        n, c, h, w = dout.shape
        for a in range(n):
            for b in range(c):
                for i in range(h):
                    for j in range(w):
                        window = self.x[a, b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                        p, q = np.unravel_index(window.argmax(), (2, 2))
                        dx[a, b, 2 * i + p, 2 * j + q] = dout[a, b, i, j]
        return dx


class MaxPoolSpread(MaxPool):
    def backward(self, dout: Array) -> Array:
        return dout.repeat(2, axis=2).repeat(2, axis=3)


class MeanPool:
    def forward(self, x: Array) -> Array:
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))

    def backward(self, dout: Array) -> Array:
        return dout.repeat(2, axis=2).repeat(2, axis=3) / 4


class MeanPoolNotDivided(MeanPool):
    def backward(self, dout: Array) -> Array:
        return super().backward(dout) * 4


class Flatten:
    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dout: Array) -> Array:
        return dout.reshape(self.shape)


class FlattenInOtherOrder(Flatten):
    def backward(self, dout: Array) -> Array:
        return dout.reshape(self.shape, order="F")


class Network:
    """Two affine layers and an activation between them, driven in a loop."""

    def __init__(self) -> None:
        self.layers: list[Any] = [Affine(4, 5), ReLU(), Affine(5, 3)]

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout: Array) -> Array:
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout


class NetworkWithoutActivation(Network):
    def backward(self, dout: Array) -> Array:
        return self.layers[0].backward(self.layers[2].backward(dout))
