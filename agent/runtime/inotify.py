"""The kernel's notices of changed files, as a file descriptor for the event loop. Called by the log collector."""

import ctypes
import os
import struct

IN_MODIFY = 0x2
_IN_IGNORED = 0x8000
_IN_Q_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Watches for writes to single files; each has a number by which its changes are told."""

    def __init__(self) -> None:
        self.fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")

    def watch(self, path: str) -> int:
        number = _libc.inotify_add_watch(self.fd, os.fsencode(path), IN_MODIFY)
        if number < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", path)
        return int(number)

    def unwatch(self, number: int) -> None:
        _libc.inotify_rm_watch(self.fd, number)  # fails harmlessly if the file is gone

    def changed(self) -> set[int] | None:
        """The numbers of files written to; None when the kernel lost count: look at all."""
        found: set[int] = set()
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return found
            at = 0
            while at + _EVENT.size <= len(data):
                number, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                if mask & _IN_Q_OVERFLOW:
                    return None
                if not mask & _IN_IGNORED:
                    found.add(number)

    def close(self) -> None:
        os.close(self.fd)
