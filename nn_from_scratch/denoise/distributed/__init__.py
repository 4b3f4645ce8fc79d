"""Data-parallel training: several processes with one model each, which take a part of every batch and the same steps.

`launch.py` reads what torchrun says about a process, `replicas.py` is the group of processes as one of them sees it,
and `averaging.py` makes one gradient of theirs. Rank 0 leads: it alone writes and prints. docs/distributed.md says how
runs are started. Importing this package loads no torch.
"""
