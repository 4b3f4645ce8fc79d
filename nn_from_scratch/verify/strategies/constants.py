"""Every number that the strategies draw within, with its unit and its origin."""

from __future__ import annotations

# Default bounds of a geometry, (least, most). A derivation: three samples, since a loop may forget the first or the
# last; groups of one channel and of two; kernels and sizes that are even and odd, smaller than each other, and large
# enough for every remainder of every stride; and strides, paddings and dilations that no other number stands for.
# Larger ones add no new case, and 9 x 9 entries keep an example below a millisecond.
BATCH = (1, 3)
CHANNELS = (1, 4)
GROUPS = (1, 3)
SIZE = (1, 9)
KERNEL = (1, 4)
STRIDE = (1, 3)
PADDING = (0, 2)
DILATION = (1, 3)
OUTPUT_PADDING = (0, 2)
# Default bounds of a tensor: up to the four axes (N, C, H, W), and 5^4 = 625 entries.
AXES = (0, 4)
SIDES = (1, 5)
# Seeds of the entries, which shrink to 0. Of 100 examples, two share one by chance in 7 % of the runs.
SEEDS = 2**16
# Special entries in one tensor, at most: several of them, so that they can meet in one row, and few enough to leave
# most entries of a default tensor as they are.
MOST_SPECIAL = 4
# Entries of memory that a snippet prints: about 20 kB, or ten screens.
MOST_PRINTED = 1000
# Entries before the first of a tensor with an offset: odd, so that the offset is aligned to no vector of any dtype.
OFFSET = 3
# What a fault is drawn from. Values below the least valid one; and numbers of axes that no kernel for (N, C, H, W)
# takes, but 3, which torch takes as a sample without a batch.
NEGATIVE = (-1, -2)
WRONG_AXES = (1, 2, 5)
# The most by which a number exceeds the largest valid one, beyond the first that does.
EXCESS = 1
# Groups that do not divide the channels: 2 and 3 are the least that some number of channels is no multiple of.
INDIVISIBLE_GROUPS = (2, 3)
# Dilations of windows of two entries that lie on both sides of an input of `dilation - 1` entries.
DILATION_OVER_INPUT = (2, 4)
