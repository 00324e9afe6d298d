"""The keys by which a user leaves a container's terminal without ending it: ctrl-p ctrl-q. Pure; for attaching.py and cli."""

from __future__ import annotations

from typing import Final

from common import errors

DEFAULT: Final = b"\x10\x11"
_CONTROL: Final = {
    **{chr(n + 96): n for n in range(1, 27)},
    "@": 0,
    "[": 27,
    "\\": 28,
    "]": 29,
    "^": 30,
    "_": 31,
}


def parse(text: str) -> bytes:
    """ "ctrl-a,x" and the like; empty means the default."""
    if not text:
        return DEFAULT
    keys = bytearray()
    for word in text.split(","):
        control = word.lower().removeprefix("ctrl-")
        if word.lower().startswith("ctrl-") and control in _CONTROL:
            keys.append(_CONTROL[control])
        elif len(word) == 1 and word.isascii():
            keys.append(ord(word))
        else:
            raise errors.InvalidArgument(
                f"Invalid detach keys ({text}) provided: Unknown character: '{word}'"
            )
    return bytes(keys)


class Watch:
    """Looks for the keys in what a client types; what may be their beginning is held back."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes on to the process, and whether the client leaves."""
        text = self._held + data
        at = text.find(self._keys)
        if at >= 0:
            self._held = b""
            return text[:at], True
        kept = next((n for n in range(len(self._keys) - 1, 0, -1) if text.endswith(self._keys[:n])), 0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept], False
