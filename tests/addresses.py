"""Addresses of loopback that no other run of the tests on this machine has: with them a port is never taken by somebody else."""

from __future__ import annotations

import os


def own_loopback(number: int) -> str:
    """One of three of this process's own (1 to 3): 127.0.0.0/8 has room for every process id."""
    assert 1 <= number <= 3
    own = os.getpid() << 2 | number  # of 22 bits and 2
    return f"127.{own >> 16 & 255}.{own >> 8 & 255}.{own & 255}"
