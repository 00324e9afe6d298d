"""Points in time as users type them in filters: Unix seconds, RFC 3339, a date, or how long ago (Go's durations). Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from common import apijson, errors

_SECOND: Final = 1_000_000_000
_UNITS: Final = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND,
}  # fmt: skip
_PART: Final = r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)"
_DURATION: Final = re.compile(rf"(?:{_PART})+")


def moment(text: str, now: int) -> int:
    """Nanoseconds since the epoch; raises errors.InvalidArgument for what is no time."""
    seconds, _, fraction = text.partition(".")
    if seconds.isdecimal() and (not fraction or fraction.isdecimal()):
        return int(seconds) * _SECOND + int(fraction[:9].ljust(9, "0"))
    if _DURATION.fullmatch(text):
        return now - round(sum(float(count) * _UNITS[unit] for count, unit in re.findall(_PART, text)))
    try:
        if "Z" in text or re.search(r"T.*[+-]\d", text):
            return apijson.parse_time(text)
        found = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as exc:
        raise errors.InvalidArgument(f'failed to parse value as time or duration: "{text}"') from exc
    return int(found.timestamp()) * _SECOND


def timestamp(text: str) -> int:
    """Nanoseconds of a Unix time with up to nine decimals, or of an RFC 3339 time; 0 for nothing."""
    if not text or text == "0":
        return 0
    seconds, _, fraction = text.partition(".")
    if seconds.isdecimal() and (not fraction or fraction.isdecimal()):
        return int(seconds) * _SECOND + int(fraction[:9].ljust(9, "0")) or 1  # a bound, if an early one
    try:
        return apijson.parse_time(text)
    except ValueError as exc:
        raise errors.InvalidArgument(f"invalid time: {text}") from exc
