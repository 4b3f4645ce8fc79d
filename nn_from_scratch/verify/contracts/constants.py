"""The numbers of the contract checks, each with its unit and where it comes from.

What is said to be measured is measured anew by `python -m tests.bench.constant_sensitivity --only NAME`.
"""

from __future__ import annotations

# What rounding may do. An allowance is the context's factor times (how far rounding the inputs moves a tensor + one
# rounding of its largest entry).

# Passes with rounded inputs. Derived: an entry stays as it is in all of them with probability (1/3)^3 = 1/27.
ROUNDING_TRIALS = 3
# Units in the last place, at most. Derived: one for the entry itself, one for the operation that takes it.
ROUNDINGS_OF_AN_ENTRY = 2
# Allowances, where several passes, another implementation or another device is compared. Derived for a·u + b·v: three
# passes, with weights 1, 3/4 and 3/2. Measured: with 1, the right softmax of inputs around 10 is found wrong.
COMBINED = 4.0
# Share of an allowance that counts as zero. Derived: every product with zero is zero exactly, so any small share
# would do; it keeps the margin of what is not zero finite.
ZERO_SHARE = 1e-7

# Passes that should be equal. Derived: of two equally likely outcomes, three passes show both in 3 of 4 cases.
EQUAL_PASSES = 3
# Roundings of the largest entry. Derived: a sum of 10^6 terms in any order is off by about sqrt(10^6) of them.
MOST_ROUNDINGS = 1e3
# Share of the largest entry by which two passes may differ before nothing is compared with them. Derived: above 10^3
# roundings of float32 (1.2e-4), in which sums are made in any order, and below any random draw.
USABLE_NONDETERMINISM = 1e-3

# What takes the place of zeros, where nothing else can be changed. A choice: far above rounding, and small beside 1.
SMALL_CHANGE = 0.01

# Weights (a, b) of two cotangents. Derived: signs and sizes differ, and both are exact in every dtype.
COEFFICIENTS = (0.75, -1.5)
# Exponent of the power of two by which a cotangent is scaled, exactly. Measured: with 6, a threshold of 1e-3 is missed.
SCALE_EXPONENT = 12
# Roundings of the largest entry by which a gradient may differ between two cotangents. Derived: a backward that
# computes with the cotangent beside numbers of size 1, as that of a matrix exponential, rounds so many times more.
ROUNDINGS_OF_ANOTHER_SCALE = 2.0**SCALE_EXPONENT
# Entries of each output that are made infinite. A budget: three backward passes an entry.
PROBED_ENTRIES = 4
# Share of the largest derivative above which an entry depends on an output. Derived: above the rounding of float32
# sums, so that a NaN is expected only where there is a derivative.
DEPENDENCE = 1e-6
# Samples of a batch that are run alone, and operands that are frozen alone. Budgets: a pass for each.
MOST_SAMPLES = 8
# Inputs beside the first one that may share its samples. A budget: every choice among them is tried, 2^3.
MOST_SHARING = 3
# How many allowances the outputs for different samples must be apart. Derived: a relation then holds to three digits.
TELLING = 1e3
# Relative distance at which what outputs do with samples is looked at again. Derived: far above rounding, below values.
DISTANCE_OF_RELATIONS = 1e-3
MOST_FROZEN = 8

# Special values: kinks of relu, hardtanh, softshrink, hardshrink, hardswish and relu6 with their usual arguments.
THRESHOLDS = (0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 6.0)
# Mean magnitudes of an input. Derived: exp(-40) is below a rounding of 1 in float64, and exp(2000) overflows.
SATURATING_SIZES = (40.0, 2000.0)
# How far rows of shares may be from adding up to one, absolutely. Derived: above a rounding of float32, 1e-7, and below
# what a row of other numbers is off.
SHARES_OF_ONE = 1e-5
# Share of the entries that are set to zero. A choice: zeros and other numbers meet in rows of a few entries.
ZEROED_SHARE = 0.25

# Steps of plain central differences, relative to the size of a tensor. Derived: their truncation goes as h^2 (1e-8,
# 1e-12) and their rounding as eps/h (2e-12, 2e-10), far below the difference that is looked for.
PLAIN_STEPS = (1e-4, 1e-6)
# Relative difference to a plain slope that needs no closer look: four digits. A budget: nine of ten special values are
# settled by it in four forward passes (measured); a smaller one leaves more of them to the numerical derivative.
PLAIN_DIFFERENCE = 1e-4

# A gradient at a special value counts where plain slopes along one direction are the same: at the point, with both
# steps, and at points close by. Derived for a function of curvature about 1: slopes that are NEARBY apart differ by as
# much, and by h^2; at a degenerate point by their own size.
NEARBY = 1e-5
NEARBY_POINTS = 2
SMOOTH_DIFFERENCE = 1e-3
# Relative difference from which a gradient is plainly wrong there. Derived: ten times what slopes may differ by.
PLAINLY_WRONG = 1e-2
# How many times more than in proportion to the step the outputs may move at a kink. Derived: a square root moves ten
# times as much, a jump a hundred times, for steps that are a hundred apart.
MOST_GROWTH = 3.0
# Share of such a difference by which rounding the inputs may move the gradient: more of it may be rounding.
SHARE_OF_ROUNDING = 0.1

# Dtypes that are compared with float64: those that layers are trained in.
LOW_DTYPES = ("float32", "bfloat16", "float16")
# How many times more than rounded inputs explain a forward may be off: beyond, it is another function in that dtype
# (an epsilon that depends on it), or has no digit left: 6 of the 8 bits of bfloat16. Measured: with 16, the right
# tanhshrink and kl_div of small inputs are undecided.
MOST_FORWARD_LOSS = 64.0
# Share of the context's factor up to which rounded inputs alone explain a gradient. A budget: nine of ten right
# gradients are settled by it, without a pass for each result inside.
PLAIN_ROUNDING_SHARE = 0.2
# The same where the results inside are not known, as NumPy computed them. Measured: with 0.1, six of 459 right
# functions are found wrong; with 1.6, a gradient that is 20 % too large in bfloat16 is missed.
ROUNDING_SHARE = 0.4
# Roundings of an output's size, per size of the operand, that are no news in such a gradient: 1 - y is off by one of
# them where y is nearly 1. Derived: one for each of a dozen operations, and some more.
UNSEEN_ROUNDINGS = 16.0
# Results inside that are rounded one by one; of more, every so many are rounded together. A budget: a pass for each.
ROUNDED_RESULTS = 48
# Contributions of single roundings that add up. Derived: a backward of a few operations has fewer of weight; 600 equal
# ones would explain the 5 % by which a sum of 600 terms is off in bfloat16, 16 explain 1.6 %.
ADDED_ROUNDINGS = 16
# Standard deviations of that sum: a rounding is at most what was tried, and 0.6 of it on average; this is 3.5 of them.
SPREAD_OF_ROUNDINGS = 2.0
# Neighboring inputs at which an error is looked at again, how far away they are in units in the last place, and the
# share by which it has to change in half of them to be erratic. Derived: a wrong factor moves by some of these units.
NEIGHBORS = 8
NEIGHBOR_STEPS = 4
ERRATIC_CHANGE = 0.3
# Share of the range of a dtype above which a gradient is not compared. Derived: sums of two such numbers still fit.
RANGE_SHARE = 0.25

# Share of the largest entry of a second derivative, or of the gradient, below which a difference is no finding.
# Derived: a term that is missing is about as large as the others; what cancels leaves 1e-9 of them
# (torch.logcumsumexp at 1e4).
PLAIN_SECOND_ORDER = 1e-6

# Share of the difference between a tangent and the slope of the forward within which the backward must agree with that
# slope, before the tangent is called wrong. Derived: two of three agree to a digit better than the third.
SHARE_OF_TANGENT = 0.1
# Factors by which a tangent may be off with a name, and how near it has to be. Derived: far above the accuracy of a
# projection in float64, and far below the distance of two such factors.
NAMED_FACTORS = (2.0, 0.5, -2.0, -0.5, 3.0, 4.0, 0.25)
NAMED_DIFFERENCE = 1e-4

# Samples of a vmap, as multiples of the given values. Derived: smaller ones stay in most domains; their number is none
# of the usual sizes of a dimension, which an exchange of dimensions would not change.
SCALES_OF_SAMPLES = (1.0, 0.875, 0.75, 0.9375, 0.8125, 0.96875, 0.78125)
# Entries of the outputs up to which the Jacobian is taken row by row. A budget: a backward pass each.
MOST_JACOBIAN_ROWS = 200
