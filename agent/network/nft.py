"""libnftables, as little of it as is needed: run text in one transaction, in the namespace the context was made in.

Used by thread.py only. A context keeps the netlink socket it was born with, so it works on its namespace from
wherever it is called; it is not thread-safe. Freeing one waits for the kernel (some 12 ms).
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any, Final

_SONAME: Final = "libnftables.so.1"


class NftError(Exception):
    """The transaction was refused as a whole; the text is the library's."""


@cache
def _library() -> Any:
    try:
        lib = ctypes.CDLL(_SONAME)
    except OSError as e:
        raise NftError(f"{_SONAME} is missing: install libnftables1 ({e})") from e
    lib.nft_ctx_new.restype = ctypes.c_void_p
    lib.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(lib, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(lib, name).argtypes = [ctypes.c_void_p]
        getattr(lib, name).restype = ctypes.c_char_p
    lib.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return lib


class Context:
    """One libnftables context, bound to the calling thread's network namespace."""

    def __init__(self) -> None:
        self._lib = _library()
        self._ctx = self._lib.nft_ctx_new(0)
        if not self._ctx:
            raise NftError("libnftables gave no context")
        self._lib.nft_ctx_buffer_output(self._ctx)
        self._lib.nft_ctx_buffer_error(self._ctx)

    def run(self, text: str) -> str:
        """Runs a transaction and returns its output; raises NftError when nothing was changed."""
        status = self._lib.nft_run_cmd_from_buffer(self._ctx, text.encode())
        output = self._lib.nft_ctx_get_output_buffer(self._ctx).decode(errors="replace")
        error = self._lib.nft_ctx_get_error_buffer(self._ctx).decode(errors="replace")
        if status:
            raise NftError(error.strip().partition("\n")[0] or f"nftables: status {status}")
        return str(output)

    def free(self) -> None:
        """Gives the context back; blocks for a while."""
        if self._ctx:
            self._lib.nft_ctx_free(self._ctx)
            self._ctx = None
