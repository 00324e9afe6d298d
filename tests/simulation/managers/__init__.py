"""Whole managers on a virtual clock: the daemon's own modules, a simulated network, disks that crash, agents that pretend.

`runs.run_seed(seed)` is one run; `python -m tests.soak.managers` makes many. What the managers run is what shoal-manager
runs, from Local and Control down to log and snapshot files; only gRPC, threads, time and chance are stand-ins
(standins.py).
"""
