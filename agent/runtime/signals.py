"""Signals by the names that Docker accepts: TERM, SIGTERM, 15, RTMIN+3. Pure."""

import signal

from common.errors import InvalidArgument

_RTMIN, _RTMAX = 34, 64


def parse(text: str) -> int:
    """The number of a signal; InvalidArgument with Docker's text for what isn't one."""
    name = text.strip().upper()
    number = int(name) if name.isdecimal() and len(name) < 4 else _named(name.removeprefix("SIG"))
    if not 1 <= number <= _RTMAX:
        raise InvalidArgument(f"invalid signal: {text}")
    return number


def _named(name: str) -> int:
    for base, start in (("RTMIN", _RTMIN), ("RTMAX", _RTMAX)):
        if name.startswith(base):
            rest = name.removeprefix(base)
            offset = int(rest) if rest[1:].isdecimal() and rest[0] in "+-" else 0 if not rest else None
            number = start + offset if offset is not None else 0
            return number if _RTMIN <= number <= _RTMAX else 0
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        return 0
