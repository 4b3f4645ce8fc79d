"""Every number of the verifier's core, with its unit and where it comes from.

Those of the numerical derivative, the contract checks and the diagnosis stand in files of this name in their folders.
"""

from __future__ import annotations

# Estimated errors above which a difference is wrong. Measured: `python -m tests.bench.verifier_figures --only alarms`
# finds no |difference| above three of them in right functions.
FACTOR = 10.0
# The smallest magnitude of a random signed number, of [0.5, 1.5): no entry is so small that its error could hide.
SMALLEST_DRAW = 0.5

# Names of the options of single checks that are numbers of at least 0.
NUMBERS_OF_CHECKS = ("resolution", "entry_seconds", "naming_seconds", "nondeterminism")
# Characters of a value up to which a message about it shows it, rather than what it is: half a line.
SHOWN_CHARACTERS = 60
TIME_LIMIT = 60.0  # Seconds that one check may take by default: what a person waits for one test.
# Seconds above which a time limit is none: a year, and less than what a thread can be told to wait.
LONGEST_TIME_LIMIT = 365 * 24 * 3600.0
GRACE = 0.5  # Seconds that a check which looks at its deadline by itself gets to say what it has found.
# Seconds that calls which were given up get to return, all together: an import takes two or three on a busy machine.
PATIENCE = 5.0
IDLE_THREADS = 4  # Threads kept for the next checks: as many as tests check side by side within one process.
ENDING_SECONDS = 60.0  # Seconds that the end of a process may take: what a person waits for a command to end.
ENDING_POLL = 0.01  # Seconds between looks at whether it has ended: not noticed by a person.
SIGNAL_STATUS = 128  # What a shell adds to the number of the signal that ended a process.
# Draws of random numbers that a gradient is checked for. Derived: a mask that drops none of four entries at a rate of
# 0.3, and so hides that the backward forgets it, is drawn with probability 0.24; three times in a row with 0.014.
DRAWS = 3
NUMPY_SEEDS = 2**32  # Seeds that NumPy's global generator takes, of 32 bits.
# Numbers in all inputs together from which torch's own threads pay for their start. Measured: on a busy machine,
# thousands of passes over smaller inputs took 25 s with two threads and 0.7 s with one.
MIN_NUMBERS_FOR_THREADS = 100_000

# Entries up to which a snippet writes a tensor as a list (a few lines), and as compressed text (a screen or two).
LISTED_ENTRIES = 64
EMBEDDED_ENTRIES = 16384
TEXT_WIDTH = 96  # Characters of that text in a line: with quotes and indentation it stays within 120.

# Digits of a percentage, and the most it gets so as not to be rounded up to 100 %: all that a float has.
PERCENT_DIGITS = range(3, 16)
