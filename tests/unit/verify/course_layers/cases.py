"""The layers of this folder with what they are given: data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nn_from_scratch.verify import Report, check
from tests.functions import draw
from tests.unit.verify.course_layers import numpy_classes as classes
from tests.unit.verify.course_layers import numpy_functions as functions
from tests.unit.verify.course_layers import torch_layers as layers
from tests.unit.verify.course_layers.numpy_classes import drawn


@dataclass(frozen=True)
class Case:
    """A subject and its inputs.

    Attributes:
        tensors: Those whose gradient is wrong, or those of a right subject, all in one text.
        says: What the fault's name has to contain; empty where it has none.
    """

    name: str
    subject: Callable[[], object]
    inputs: tuple[Any, ...]
    tensors: str
    says: str = ""

    def check(self, checks: str | None = None) -> Report:
        return check(self.subject(), *self.inputs, name=self.name, checks=checks)


X, ROWS = drawn(5, 4, seed=7), drawn(5, 3, seed=8)
IMAGE, TORCH_IMAGE = drawn(2, 3, 6, 6, seed=9), draw(2, 3, 6, 6, seed=9)
LABELS = np.array([0, 2, 1, 1, 0])
INDEX = np.array([0, 2, 2, 5])
T, TORCH_ROWS = draw(5, 4, seed=7), draw(5, 3, seed=8)
NORM = (X, drawn(4, seed=1), drawn(4, seed=2))
AFFINE = (X, drawn(4, 3, seed=1), drawn(3, seed=2))
PRODUCT = (T, draw(3, 4, seed=1), draw(3, seed=2))
CONVOLUTION = (IMAGE, drawn(4, 3, 3, 3, seed=1), drawn(4, seed=2))
STEP = (drawn(5, 3, seed=1), drawn(5, 3, seed=2), drawn(3, 3, seed=3), drawn(3, 3, seed=4), drawn(3, seed=5))
HEAD = (drawn(4, 3, seed=1), drawn(6, 3, seed=2), drawn(6, 3, seed=3))


def _class(kind: type, *inputs: Any, of: str, says: str = "") -> Case:
    return Case(kind.__name__, kind, inputs, of, says)


def _pair(forward: Callable[..., Any], backward: Callable[..., Any], *inputs: Any, of: str, says: str = "") -> Case:
    return Case(backward.__name__, lambda: (forward, backward), inputs, of, says)


def _function(kind: type[torch.autograd.Function], *inputs: Any, of: str, says: str = "") -> Case:
    return Case(kind.__name__, lambda: kind, inputs, of, says)


RIGHT = [
    _class(classes.Affine, X, of="x W b"),
    _class(classes.SquareAffine, ROWS, of="x W b"),
    _class(classes.Dictionaries, X, of="x W b"),
    _class(classes.Lists, X, of="x params.0 params.1"),
    _class(classes.Tuples, X, of="x params.0 params.1"),
    _class(classes.ReLU, X, of="x"),
    _class(classes.Sigmoid, X, of="x"),
    _class(classes.Tanh, X, of="x"),
    _class(classes.LeakyReLU, X, of="x"),
    _class(classes.Softmax, X, of="x"),
    _class(classes.SoftmaxCrossEntropy, ROWS, LABELS, of="x"),
    _class(classes.Embedding, INDEX, of="W"),
    _class(classes.BatchNorm, ROWS, of="x gamma beta"),
    _class(classes.MaxPool, IMAGE, of="x"),
    _class(classes.MeanPool, IMAGE, of="x"),
    _class(classes.Flatten, IMAGE, of="x"),
    _class(classes.Network, X, of="x layers.0.W layers.0.b layers.2.W layers.2.b"),
    Case("one sample", classes.Affine, (X[:1],), "x W b"),
    Case("without a batch", classes.Tanh, (X[0],), "x"),
    _pair(functions.affine_forward, functions.affine_backward, *AFFINE, of="x w b"),
    _pair(functions.relu_forward, functions.relu_backward, X, of="x"),
    _pair(functions.layernorm_forward, functions.layernorm_backward, *NORM, of="x gamma beta"),
    _pair(functions.conv_forward, functions.conv_backward, *CONVOLUTION, of="x w b"),
    _pair(functions.dropout_forward, functions.dropout_backward, X, of="x"),
    _pair(functions.rnn_step_forward, functions.rnn_step_backward, *STEP, of="x h wx wh b"),
    _pair(functions.attention_forward, functions.attention_backward, *HEAD, of="q k v"),
    _pair(functions.logsumexp_forward, functions.logsumexp_backward, X, of="x"),
    _class(layers.Linear, T, of="x weight bias"),
    _class(layers.UnfoldConvolution, TORCH_IMAGE, of="x weight bias"),
    _class(layers.UpsampleNearest, TORCH_IMAGE, of="x"),
    _class(layers.GlobalAverage, TORCH_IMAGE, of="x"),
    _class(layers.Residual, T, of="x w"),
    _class(layers.NetworkOfLayers, T, of="x param.0 param.1 param.2"),
    _class(layers.Shift, TORCH_ROWS, of="x shift"),
    _function(layers.Swish, T, of="x"),
    _function(layers.Polynomial, T, of="x"),
    _function(layers.MatrixProduct, *PRODUCT, of="x w b"),
    _function(layers.LogSoftmax, T, of="x"),
    _function(layers.Normalize, T, of="x"),
    Case("module", lambda: layers.ScaledModule(layers.Swish.apply), (T,), "x scale"),
]

WRONG = [
    _class(classes.AffineWithBatchMean, X, of="W", says="too small by a factor of 5, which is here N"),
    _class(classes.AffineWithUnsummedBias, X, of="b", says="the first sample alone"),
    _class(classes.AffineWithNegativeBias, X, of="b", says="the wrong sign"),
    _class(classes.SquareAffineTransposed, ROWS, of="x", says="uses 'W' transposed"),
    _class(classes.DictionariesHalved, X, of="W", says="too small by a factor of 2"),
    _class(classes.ListsWithZeroBias, X, of="params.1", says="is zero everywhere"),
    _class(classes.TuplesWithSignError, X, of="params.0", says="the wrong sign"),
    _class(classes.ReLUWithoutMask, X, of="x", says="the cotangent itself"),
    _class(classes.ReLUOfCotangent, X, of="x", says="the mask, from the cotangent"),
    _class(classes.SigmoidWithoutCotangent, X, of="x", says="the cotangent is ignored"),
    _class(classes.SigmoidWithoutOne, X, of="x", says="by the value f(x), where it should be the derivative"),
    _class(classes.TanhWithoutSquare, X, of="x", says="by 1 - y, which is not the derivative"),
    _class(classes.LeakyReLUZeroed, X, of="x", says="that of ReLU, while the forward is leaky ReLU"),
    _class(classes.SoftmaxDiagonal, X, of="x", says="only the diagonal of softmax's Jacobian"),
    _class(classes.SoftmaxCrossEntropyNotAveraged, ROWS, LABELS, of="x", says="too large by a factor of 5"),
    _class(classes.SoftmaxCrossEntropyWithoutTarget, ROWS, LABELS, of="x", says="without the target subtracted"),
    _class(classes.EmbeddingOverwritten, INDEX, of="W", says="only the last cotangent"),
    _class(classes.BatchNormOfConstants, ROWS, of="x", says="the mean and the deviation for constants"),
    _class(classes.BatchNormWithoutVariance, ROWS, of="x", says="that comes through the deviation"),
    _class(classes.MaxPoolSpread, IMAGE, of="x", says="not to the maximum alone"),
    _class(classes.MeanPoolNotDivided, IMAGE, of="x", says="too large by a factor of 4"),
    _class(classes.FlattenInOtherOrder, IMAGE, of="x", says="Fortran order"),
    _class(classes.NetworkWithoutActivation, X, of="x layers.0.W layers.0.b", says="the derivative of relu("),
    _pair(functions.affine_forward, functions.affine_backward_without_sum, *AFFINE, of="b", says="which is here N"),
    _pair(
        functions.relu_forward, functions.relu_backward_of_output, X, of="x", says="does not depend on the cotangent"
    ),
    _pair(
        functions.layernorm_forward, functions.layernorm_backward_over_samples, *NORM, of="x", says="means of its terms"
    ),
    _pair(
        functions.layernorm_forward,
        functions.layernorm_backward_without_scale,
        *NORM,
        of="x",
        says="lacks the factor 'gamma'",
    ),
    _pair(
        functions.conv_forward, functions.conv_backward_overwriting, *CONVOLUTION, of="x", says="only the last of the"
    ),
    _pair(
        functions.conv_forward, functions.conv_backward_flipped, *CONVOLUTION, of="w", says="is flipped along axis 2"
    ),
    _pair(functions.dropout_forward, functions.dropout_backward_unscaled, X, of="x", says="a factor of 1.66667"),
    _pair(
        functions.rnn_step_forward, functions.rnn_step_backward_exchanged, *STEP, of="x h", says="in the wrong order"
    ),
    _pair(
        functions.attention_forward, functions.attention_backward_unscaled, *HEAD, of="q k", says="the square root of"
    ),
    _class(layers.LinearWithDoubledWeight, T, of="weight", says="too large by a factor of 2"),
    _class(layers.LinearFromFirstSample, T, of="weight", says="the first sample alone"),
    _class(layers.UnfoldConvolutionBiasOfSamples, TORCH_IMAGE, of="bias", says="the number of positions, H·W"),
    _class(layers.UpsampleNearestAveraged, TORCH_IMAGE, of="x", says="too small by a factor of 4"),
    _class(layers.GlobalAverageNotDivided, TORCH_IMAGE, of="x", says="too large by a factor of 36"),
    _class(layers.ResidualWithoutShortcut, T, of="x", says="a skip connection"),
    _class(layers.ShiftWithoutTanh, TORCH_ROWS, of="shift", says="the derivative of tanh("),
    _function(layers.SwishHalf, T, of="x", says="lacks the term s(x)"),
    _function(layers.PolynomialWithoutHalf, T, of="x", says="too large by a factor of 2"),
    _function(layers.MatrixProductMeanBias, *PRODUCT, of="b", says="too small by a factor of 5"),
    _function(layers.LogSoftmaxWithoutSum, T, of="x", says="lacks the sum in -softmax(x)·Σg"),
    _function(layers.NormalizeByConstant, T, of="x", says="takes the norm for a constant"),
]
