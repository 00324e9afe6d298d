"""common/memory.py: freed memory goes back."""

import ctypes
import gc
from pathlib import Path

from common import memory


def anonymous() -> int:
    """KiB of this process that no file backs."""
    line = next(li for li in Path("/proc/self/status").read_text().splitlines() if li.startswith("RssAnon:"))
    return int(line.split()[1])


def test_pages_between_blocks_in_use_are_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    size, number = 64 << 10, 256
    blocks = [libc.malloc(size) for _ in range(number)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[:-1]:  # the last one stays on top of them
        libc.free(block)
    held = anonymous()
    memory.give_back()
    assert anonymous() < held - (number * size >> 10) // 2
    libc.free(blocks[-1])


def test_settling_freezes_what_is_there() -> None:
    try:
        memory.settle()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
