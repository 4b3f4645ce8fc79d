"""Every number that the diagnosis decides by, with its unit and its origin.

Where an origin is a measurement, it is this one, over the planted faults and over right functions:

    python -m tests.bench.constant_sensitivity --only nn_from_scratch.verify.diagnosis.constants
"""

from __future__ import annotations

import torch

# How well a gradient is known

# Relative error of a prediction made with float64: 16 roundings in a row, of at most eps / 2 each. No prediction has
# more for one entry.
ROUNDING = 8 * torch.finfo(torch.float64).eps
# What a divisor of 0 becomes: close to the smallest normal float64 (2e-308), and far enough from it that its reciprocal
# times an entry below 1e8 is finite.
TINY = 1e-300
# The largest allowed error of an entry. An entry of unknown value has one of any size; the square of this is finite.
LARGEST_ERROR = 1e100
# Allowed errors by which an entry counts as not zero. A right entry and a right zero are at most 2 apart; twice that
# leaves no doubt which of them an entry is.
CLEARLY_NONZERO = 4.0
# Allowed errors by which sorted magnitudes may differ. Sorting adds none; the common factor, which is the ratio of the
# largest ones, adds one to the entry's own; the rest is a margin of 2.
SORTED_ERROR = 4.0
# Without a tolerance, the allowed relative error in units of sqrt(eps) of the gradient's dtype: a one-sided difference
# resolves sqrt(eps) at its best step (Press et al., Numerical Recipes, section 5.7); a sum of 64 independent errors of
# that size has 8.
GUESSED_ERROR = 8.0
# The most of it, relative: in bfloat16, 8 sqrt(eps) would be 0.7 and allow everything. Two numbers that differ by a
# factor of 1.1 are still told apart.
LARGEST_GUESSED_ERROR = 0.05
# The entry that a small entry's error is relative to, as a share of the largest: rounding errors of sums scale with
# their largest terms.
GUESSED_FLOOR = 0.1
# Relative error of a recognized operation's output, of the largest entry: above the rounding of float32 sums of 1000
# terms (6e-5), below the distance of tanh-GELU and erf-GELU (5e-4), the closest pair of functions that are told apart.
OUTPUT_ERROR = 1e-4
# Relative error of a factor along an axis against the tensor that names it: fitted factors are as exact as finite
# differences in float64, about 1e-8, with a margin for entries near 0.
FACTOR_ERROR = 1e-5

# Evidence, in bits: log2 of how much less likely a fit by chance is than a fit by cause

# By chance, one in 2^10 = 1000 explanations has as much, about as many as one search tries.
NEEDED_BITS = 10.0
# So much more for each unit of complexity: of such explanations there are about four times as many (log2 4).
BITS_PER_COMPLEXITY = 2.0
# The most that one entry gives: a scalar known to 1e-9 (2^-30) is enough for any explanation without a fitted value,
# which needs 22 bits at most, and nothing is gained by knowing it better.
MOST_BITS_PER_ENTRY = 30.0
# A region is named where the choice of the wrong entries is rarer than 2^-8 (one in 256) ...
REGION_BITS = 8.0
# ... and more for each axis: there are about 2^4 patterns of places along an axis that have a name.
REGION_BITS_PER_AXIS = 4.0

# Complexity: how much an explanation assumes; the simplest one that fits is named

# One unit is a fault made four times as rarely (see BITS_PER_COMPLEXITY). Among explanations that fit, the order alone
# decides: it follows from the choices that an explanation makes, which stand beside each.
TRIVIAL = 0.0  # nothing at all: zero
SIGN = 1.0  # one of two
RECORDED = 1.5  # one of a handful of sums of known tensors
PLAIN = 2.0  # a transformation of the whole gradient that has no number to choose, or one of a few axes
SPECIFIC = 3.0  # a transformation with a number or a place, or a fault of one operation
COMPOUND = 4.0  # two choices: a region and a factor, a tensor and a transformation of it
FITTED = 5.0  # a choice of many numbers, or numbers read off the gradient
VAGUE = 6.0  # where the gradient is wrong, not what it is
SECOND_FAULT = 2.0  # added by a second fault that is independent of the first: a sign, a factor, a flip
# Added where a fault is rarer than others of its level. Measured: with 0, two of the 97 planted faults get two names.
HALF_STEP = 0.5
# Added where two explanations predict the same, and the usual words are wanted. Measured: with 0, six of the planted
# faults get two names.
TIE_BREAK = 0.1

# How far the search goes

# Gradients of other experiments for one diagnosis; most are left out after a comparison along four directions, of 4
# forward passes each. An LSTM cell has 132: 10 other cotangents, and about 20 substitutes for each of six tensors.
EXPERIMENTS = 200
# Characters of the description of a call that may stand inside of another one's: a function of two short names.
SHORT_DESCRIPTION = 24
# Calls of torch in a forward that are tried one by one: a work limit, of some ten passes for each. An LSTM cell has 20.
MOST_CALLS = 100
# Alternatives, or names of a factor, in one sentence. More are not read.
MOST_LISTED = 3
# Axes of the largest tensors of which all subsets (2^6 = 64) and all orders (6! = 720) are tried. The largest of a
# layer has 5, (N, C, D, H, W), and one more where a sum over samples is missing.
MOST_AXES = 6
# Steps along an axis that a gradient may be rolled by: a work limit of 64 predictions for each axis.
MOST_STEPS = 64
# Places that a gradient may be shifted by: half of a kernel of 7, whose padding was forgotten.
LONGEST_SHIFT = 3
# Slices along an axis that may be reordered: a work limit of 512^2 distances, 2 MB.
MOST_SLICES = 512
# Entries on either side of a threshold: with 3 and 3, a chance order has one in 20 (6! / (3! 3!)).
FEWEST_EACH_SIDE = 3
# Ratio of the largest magnitude below a threshold to the smallest above. A lower one is a gap between two populations,
# not a threshold in one: of n values of one population, neighbors in the middle differ by about 1 / n.
NARROW_GAP = 0.6
# Scale of the other cotangent of an experiment: a power of 2, so that a linear backward scales exactly, and negative,
# so that a backward that takes magnitudes shows.
OTHER_COTANGENT = -0.5
# Small factors that have many causes, and that some axis has as its size by chance: they need no name.
COMMON_FACTORS = (2.0, 3.0, 4.0)

# What a recognized operation may be

# Numbers of a geometry that the context does not state, in entries. 4 is the largest stride of torchvision's
# convolutional classifiers (AlexNet, ConvNeXt), 2 the usual dilation, 5 the largest pooling (Inception's side branch).
# Every geometry that gives the output's size is a candidate: larger ones cost time and are taken for each other.
LONGEST_STRIDE = 4
LONGEST_DILATION = 2
LARGEST_POOLING_KERNEL = 5
# Geometries tried for one pair of tensors, the usual ones first: a work limit, of a forward and backward pass for each.
MOST_GEOMETRIES = 24
# Negative slopes of a leaky ReLU: torch's default, and those of Darknet and of DCGAN.
LEAKY_SLOPES = (0.01, 0.1, 0.2)
# Thresholds of a Huber loss beside 1, the default of torch and Keras: powers of 2 and 10 next to it.
HUBER_DELTAS = (0.1, 0.5, 2.0)
# x·sigmoid(1.702 x) approximates GELU (Hendrycks and Gimpel 2016, section 2).
SIGMOID_GELU = 1.702
# The values of ε in the documented defaults of torch, Keras, and the published models of this field.
EPSILONS = (1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
# Those of norms, the usual first: torch, T5 and LLaMA, Keras, ..., BERT, and none.
NORM_EPSILONS = (1e-5, 1e-6, 1e-3, 1e-8, 1e-12, 0.0)
# A named constant above this is no ε: added to a variance of 1 it would change the output by 5 %.
LARGEST_NORM_EPSILON = 0.1
