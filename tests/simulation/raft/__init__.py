"""The agreement's core on a virtual clock: seeded faults, invariants, directed scenarios, planted bugs.

`cluster.run_seed(seed)` is one run; `python -m tests.soak.raft` makes many. Nothing here knows real time.
"""
