"""Every number of the numerical derivative, with its unit and where it comes from.

Steps and distances are in units of the operand's size (its mean |x|) unless another unit is given; eps is the
relative rounding error of a dtype. None of them decides on its own what is right: a gradient is wrong by many
*estimated* errors, and these numbers say where to look for the estimate and how far to trust it.

"Measured" refers to `python -m tests.bench.constant_sensitivity --only NAME`: it varies the constant by factors of
1/4 and 4 and counts the verdicts over right functions and planted faults that change.
"""

from __future__ import annotations

# Differences: Ridders' table.

# The largest first step. Measured: a quarter leaves a right function undecided, four times as much misses a fault.
START = 0.1
# Rows of a table; each halves the step. Measured: three leave faults unseen, 14 change nothing, as rounding wins.
TABLE_ROWS = 7
# The same where all rows are computed, wanted or not: one fewer, as the last is rarely the best.
BATCHED_TABLE_ROWS = 6
FIRST_ROW_TO_STOP_AT = 3  # A table is not abandoned before this row: two differences have to be there to compare.
# The error of a row over the best one from which a table diverges: `SAFE` in Numerical Recipes, section 5.7.
DIVERGES = 2.0
# The share of rounding in the best error from which such a row ends the table; below it, later rows mostly are better.
# Measured: without it 4 % more forward passes.
FLOOR_MATTERS = 0.01
# Differences of a smooth function shrink by 4 from row to row, at a kink not at all: this lies between.
# Measured: a quarter misses faults, four times as much leaves right functions undecided.
CONVERGES = 0.7
# Differences below this many rounding floors need not shrink: four standard errors of two values each.
LOST_IN_NOISE = 8.0
# The relative rounding error of a difference of two float64 numbers: half an eps for each, and as much for each sum.
DIFFERENCE_ROUNDING = 2.0**-51
# Errors in rounding floors: here nothing is left to gain by other steps (the floor itself, and a spread of two).
AT_FLOOR = 3.0
NEAR_FLOOR = 8.0  # And here rounding still is what limits the error: as LOST_IN_NOISE.

# Differences: the search for steps at which a table settles.

# The ratio of the starts of successive tables: half of a table's own range of steps, 2**6, so that they overlap.
START_RATIO = 32.0
# Tables at most: 32**8 goes from the first start to the rounding of float64. Measured: four leave nine undecided.
TABLES = 9
# The search ends with a table whose error is not below this share of the best one so far: it gains one binary digit.
MUCH_BETTER = 0.5
# Starts that are tried, and their ratio, until the forward is finite on both sides: down to 2**-72, far below eps.
FINITE_STARTS = 24
FINITE_START_RATIO = 8.0
# Measured noise over the rounding of the outputs from which it may be an oscillation instead: four standard errors.
SUSPICIOUS_NOISE = 4.0
STEPS_BETWEEN = (0.3, 0.13)  # Steps between those of a table, in steps; no power of 2, so that no period fits both.
# Estimated errors within which two derivatives agree: as `factor`, by which a difference counts as wrong.
AGREEMENT = 10.0

# Probes.

# The relative error of a derivative that is good enough: a tenth of what is left of 16 digits after six rows.
DERIVATIVE_TARGET = 1e-10
# Cotangents of other signs that look for kinks; jumps of slopes that cancel in all four patterns are improbable.
SIGN_PATTERNS = 4
# The step below which an operand may not move at all, in eps of its dtype: one, with a margin for uneven entries.
VANISHING_STEP = 1e3
# The distance of the five points that measure noise, in starts: a third difference, (1e-6)**3, is below eps there.
# Measured: a quarter leaves a right function undecided, four times as much misses a fault.
NOISE_SPACING = 1e-5
# How far, by which ratio, the first change of a forward that does not move is looked for: to 4**30, 1e18.
ABSORPTION_STEPS = 30
ABSORPTION_GROWTH = 4.0
COARSEST_EPS = 1e-2  # The relative rounding of the coarsest dtype that is met, bfloat16's 2**-7 with a margin.
# Relative changes at which outputs are compared, from far below float32's rounding to bfloat16's.
QUANTIZATION_STEPS = (1e-11, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
# Where the next steps of a staircase are looked for, in steps: eight apart, so that every output takes one.
NEXT_QUANTIZATION_STEPS = (8, 16)
# Quantization steps in the start of a table: its smallest step, 2**-6 of it, then still averages over 16 of them.
QUANTIZATION_STEPS_IN_START = 1e3

# Linearization: rounding to expect of outputs, weights of cotangents.

# The rounding error of an output, in eps of its size: its own half and those of the few sums inside.
# Measured: a quarter changes no verdict, four times as much misses a fault and leaves right functions undecided.
OUTPUT_ROUNDINGS = 2.0
# The share of the mean |y| that the error of a small output is taken from: cancellation leaves that of its terms.
SHARE_OF_MEAN_OUTPUT = 0.1
# The smallest |y|, as a share of the mean, that the second cotangent weighs up: three decades of a softmax's tail.
SMALLEST_ENTRY_SHARE = 1e-3
# The smallest output, as a share of the largest, that is weighed up: weights must not overflow.
SMALLEST_OUTPUT_SHARE = 1e-100

# Measurements: what a projection may differ by, and whether it says anything.

# The rounding error of an entry of a gradient, in eps: a handful of operations each of half an eps.
GRADIENT_ROUNDINGS = 4.0
RESOLUTION = 1e-3  # The relative error below which a projection is resolved: a wrong factor of 0.1 % must not hide.
# The same for dtypes coarser than float64: float16's eps**(2/3), the best that a central difference can do.
LOW_PRECISION_RESOLUTION = 1e-2
# The same for outputs in a dtype with fewer digits still, in its eps: 3 % in bfloat16. A slope over the widest steps
# that there are has an error of less than one, of which FACTOR is allowed.
OUTPUT_ROUNDINGS_RESOLVED = 4.0
COARSE_EPS = 1e-4  # Coarser than float32, so bfloat16, float16 and below.
FURTHER_PROJECTIONS = 2  # Pairs of further projections then: one misses 10 % once in four times, six do in 4000.
ENOUGH = 1e-9  # The relative resolution at which one direction is enough at level "quick".
# A derivative is negligible below this many roundings of φ: those of 4096 intermediate terms, which add up like a root.
NEGLIGIBLE_ROUNDINGS = 64.0
# What may then be allowed: a part in a million of φ, or what its rounding leaves of a difference with a step of 1e-4.
NEGLIGIBLE_SHARE = 1e-6
NEGLIGIBLE_ALLOWED_ROUNDINGS = 1e4
NEGLIGIBLE_AT_MOST = 1e-2  # The most of φ that this may be in a coarse dtype: in bfloat16 it is more than all of it.
STATIONARY_ROUNDINGS = 64.0  # What does not move φ, in eps of |u| |v|: as NEGLIGIBLE_ROUNDINGS.
# The same in roundings of φ. Derived: a norm of one entry divides what x - x leaves by sqrt(1e-5): 316 of them.
CANCELLED_ROUNDINGS = 1e3

# Confirmation: what makes a disagreement certain.

# Starts, in that of the first table, that have to give the same derivative; no two have steps in common.
OTHER_STARTS = (0.8, 0.62, 0.47, 1.27, 0.11)
CONFIRMATIONS = 3  # How many of them have to disagree with the gradient: most.
# Fresh directions, one of which has to disagree: half of the entries of a single wrong block may cancel in one.
FRESH_DIRECTIONS = 2
# Distances, in steps of the first table, at which noise is measured, half a decade apart.
NOISE_DISTANCES = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)
# By how much the third differences of a smooth function grow at least for that: by 27, as the cube; this is less.
# Measured: a quarter changes no verdict, four times as much misses seven faults.
GROWTH_OF_SMOOTH = 8.0
# The relative quantization step from which a gradient of 0 is not contradicted: coarser than float32's, 1.2e-7.
WIDE_QUANTIZATION_STEP = 1e-6
# The start of the closest table, in `factor` roundings over the difference: six rows divide it by 2**6.
CLOSE_START_ROUNDINGS = 64.0
# Ratio and number of the tables from there on, and the share of the first start at which they end: 16**6 is 7 digits.
CLOSE_START_RATIO = 16.0
CLOSE_TABLES = 6
CLOSE_START_LIMIT = 0.05
SMALLEST_START = 1e-11  # The smallest start: the last step, 2**-6 of it, still is 700 roundings of the operand.
# How far the cotangent moves from one of five backwards to the next, relative to itself: far beyond its rounding.
COTANGENT_MOVE = 0.1
# Noise of a gradient beyond which it is not rounding, in eps of its largest entry: a backward whose sums have a
# condition number of 1e5 is not excused, unless roundings of its operands move it as far.
MOST_GRADIENT_NOISE = 1e5
# The same for what roundings of operands do, in eps of the mean cotangent: of terms as large as that which cancel.
MOST_COTANGENT_NOISE = 1e4
# The share of an entry by which such roundings have to move it for all of it to be rounding: no digit of it is left.
ALL_NOISE = 0.1
# Backwards with rounded operands and cotangents, and by how many eps at most: a half of one rounds to it or away, so
# that an entry stays as it is in all of them with probability 1/2**4 at most.
ROUNDING_TRIALS = 4
ULPS = 1.0

# Entries: which ones are wrong.

# The error of a batched or single table that is good enough, relative to the entry or in rounding floors.
USEFUL_ERROR = 1e-4
USEFUL_FLOORS = 10.0
ENTRY_TARGET = 1e-8  # The relative error that is asked of an entry whose first table was not good enough.
TIMED_ENTRIES = 8  # Entries after which the time of all is estimated.
# Entries of the sample that estimates the share of wrong ones: to a standard error of 6 % at most.
SAMPLED_ENTRIES = 64
# Bisection ends after so many entries or so many halvings: 32 entries of 1e5 take 17 halvings each, and as many again.
MOST_ENTRIES_FOUND = 32
MOST_BISECTIONS = 1000
WORTH_A_BATCH = 16  # Entries from which batching is tried: fewer take no noticeable time one by one.
# The trial: copies, by how much of itself each is moved, and the difference that counts as none, in output roundings.
TRIAL_COPIES = 3
TRIAL_MOVE = 0.1
TRIAL_ROUNDINGS = 16.0
NUMBERS_IN_A_BATCH = 2_000_000  # Numbers in a batched pass at most: 16 MB in float64.
UNBOUNDED = 1e300  # What an entry without a numerical value may differ by: anything, but finite.

# Kinks: one-sided derivatives.

# The first of three steps of a one-sided difference: after two extrapolations its error is step**3, its noise eps/step.
KINK_STEP = 1e-5
LOW_PRECISION_KINK_STEP = 0.03  # The same where the forward rounds to float32 or coarser.
# The relative error of a one-sided slope at least: far above its rounding (1e-9), far below what a convention changes.
SLOPE_TOLERANCE = 1e-6
# That rounding, in eps, as NEGLIGIBLE_ROUNDINGS; and the noise of the outputs, in output roundings: their weights 8/3,
# 1 and 1/12, of two outputs each, add up to 7.5, and twice that is allowed.
SLOPE_ROUNDINGS = 64.0
SLOPE_NOISE = 16.0
# By how much slopes have to approach each other from step to step: a half for a smooth side, 0.71 for |t|**1.5.
SLOPE_CONVERGES = 0.75
MOST_UNKNOWN = 0.5  # The share of the outputs without a slope from which nothing can be said.
# How much entries that move together still differ, so that no other symmetry holds them at a tie.
TOGETHER_SPREAD = 0.1
# Slack of an interval, relative: the sums' rounding, with a wide margin below anything a backward gets wrong.
BOUND_SLACK = 1e-9
# Points around whose derivatives widen an interval, their distance, and the step there as a share of it.
NEARBY_POINTS = (8, 24)
NEARBY_DISTANCE = 1e-4
NEARBY_STEP_SHARE = 1e-3
# Directions in which an output has to be convex (or concave) each time; it is by chance once in 2**15.
CONVEXITY_DIRECTIONS = 16
ADDITIVITY_PAIRS = 3  # Pairs of directions whose derivatives have to add up.

# Special points: where to look instead.

# Points close by: how entries move ("even" or "relative" to their own size) and how far.
MOVES = (("even", 1e-3), ("relative", 1e-3), ("even", 1e-6))
# The same where rounding hides whatever is closer than a percent.
LOW_PRECISION_MOVES = (("even", 0.3), ("relative", 0.3), ("even", 0.03))
# Differences between identical calls, in roundings of φ, from which a forward is nondeterministic: four errors.
NONDETERMINISTIC = 4.0
NOT_FINITE_ENTRIES = 4  # Entries that are NaN or infinite for which a derivative is looked for.
# The size of a derivative that may be 0, in roundings of φ: RESOLUTION of it is what a step of 1e-3 leaves.
ZERO_DERIVATIVE_ROUNDINGS = 1e6

# The complex step.

# So small that its square vanishes beside 1: the method has no truncation error (Squire and Trapp 1998).
COMPLEX_STEP = 1e-20
COMPLEX_ROUNDING = 64.0 * 2.0**-52  # The relative rounding error of each side: 64 eps, as NEGLIGIBLE_ROUNDINGS.
# How far the real part may be from the real forward, relative to the largest output: other algorithms, same function.
SAME_VALUE = 1e-9

# Points nearby at which an error is looked at again, how far away they are relative to each entry, and the share by
# which it has to change in half of them to be erratic. Derived: a smooth error changes by about the distance.
NEIGHBORS = 8
NEIGHBOR_DISTANCE = 1e-3
ERRATIC_CHANGE = 0.3

# Seconds, and shares of the time that is left for a check.

# For locating the entries of a wrong gradient and naming its fault, by level (the option `entry_seconds`).
LOCATING_SECONDS = {"quick": 10.0, "full": 60.0}
# CPU seconds for the experiments of all searches for a name in one check, by level (the option `naming_seconds`). At
# "quick" as long as a person waits without a thought of stopping it; "full" is for what "quick" left without a name.
NAMING_SECONDS = {"quick": 3.0, "full": 20.0}
KINK_SECONDS = 5.0  # The same at a kink, where each entry takes twelve passes.
# For the whole numerical gradient of a right one at level "full", and the entries up to which it is looked at.
WHOLE_GRADIENT_SECONDS = 20.0
WHOLE_GRADIENT_ENTRIES = 4096
# No part may take all of the time: the whole gradient and locating are spent one after the other, the rest within them.
SHARE_FOR_LOCATING = 0.4
SHARE_FOR_ENTRIES = 0.5
SHARE_FOR_RECOMPUTING = 0.25
SHARE_FOR_WHOLE_GRADIENT = 0.3
# Of the budget for names that is left, for one tensor: so that the first of several wrong ones leaves some to the next.
SHARE_FOR_ONE_NAME = 0.5

# What the axes of a tensor are: entries that move one at a time.

FEWEST_ENTRIES_WITH_AXES = 2  # Of a tensor with a single entry no axis is different from the others.
NOTICED_MOVE = 8.0  # How far, in units of the operand's size: beyond any maximum of a window of normal numbers.

# Experiments for the diagnosis: which ones are worth a whole numerical gradient.

# Directions along which a gradient is compared first. Two coefficients are fitted; a gradient that has nothing to do
# with it meets the other two equations within 1e-3 once in 10**6.
SCREENING_DIRECTIONS = 4
# The relative residual from which it is left out: far above the error of a difference, (step)**2, and far below what
# another rule changes; and the two steps, in that of a table, whose disagreement is the estimated error.
SCREENING_RESIDUAL = 1e-3
SCREENING_STEPS = (0.02, 0.01)

# Roundings of float32 by which the float64 gradient of a subject that was given in float32 may be off, as constants of
# the default dtype make it: a constant, its product and a sum. Reasoned, not measured.
SINGLE_ROUNDINGS = 8.0

# A forward jumps if it moves as far over two tiny steps as over one of a hundredth of the operand: by half of it at
# least, where a slope gives a part in 10**4, and a root or a logarithm less than half; and by more than rounding.
JUMP_STEPS = (1e-2, 1e-6, 1e-9)
JUMP_SHARE = 0.5
JUMP_ROUNDINGS = 64.0
