"""Times, sizes and durations in the words of `docker`. Pure: `now` is a parameter."""

from __future__ import annotations

import re
from datetime import UTC, datetime

SECOND = 1_000_000_000
_ZERO = "0001-01-01T00:00:00Z"


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; 0 for Go's zero time or nothing."""
    if not text or text == _ZERO:
        return 0
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", text)
    if match is None:
        return 0
    zone = "+00:00" if match[4] == "Z" else match[4]
    seconds = int(datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}").timestamp())
    return seconds * SECOND + int((match[3] or "0").ljust(9, "0"))


def go_time(text: str) -> str:
    """An RFC 3339 time as Go prints it: "2026-11-21 02:18:16.946903846 +0000 UTC"."""
    stamp = parse_time(text)
    if not stamp:
        return "0001-01-01 00:00:00 +0000 UTC"
    seconds, nanoseconds = divmod(stamp, SECOND)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def moment(nanoseconds: int) -> str:
    """Seconds since 1970 as docker's tables have them: "2026-11-21 02:18:16 +0000 UTC"."""
    return f"{datetime.fromtimestamp(nanoseconds // SECOND, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"


def ago(nanoseconds: int) -> str:
    """How long something took, roughly: "5 seconds", "About a minute"."""
    seconds = int(nanoseconds / SECOND)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{seconds // (3600 * 24 * 365)} years"


def since(text: str, now: int) -> str:
    return f"{ago(now - parse_time(text))} ago"


def duration(nanoseconds: int) -> str:
    """A duration as Go writes it: "1h0m0s", "1.5s", "300ms", "0s"."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < SECOND:
        for unit, scale in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if rest >= scale:
                return f"{sign}{_decimal(rest, scale)}{unit}"
    minutes, left = divmod(rest, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(left, SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _decimal(value: int, scale: int) -> str:
    whole, part = divmod(value, scale)
    digits = f"{part:0{len(str(scale)) - 1}d}".rstrip("0") if scale > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)


def binary_size(count: int | float) -> str:
    """ "16MiB", "23.54GiB": four digits."""
    return _scaled(float(count), 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"), 4)


def decimal_size(count: int | float) -> str:
    """ "1.23MB", "456kB": three digits, as image sizes are shown."""
    return _scaled(float(count), 1000.0, ("B", "kB", "MB", "GB", "TB", "PB", "EB"), 3)


def _scaled(value: float, base: float, units: tuple[str, ...], digits: int) -> str:
    step = 0
    while value >= base and step < len(units) - 1:
        value /= base
        step += 1
    return f"{value:.{digits}g}{units[step]}"


def number(value: float) -> str:
    """A float as Go's %v writes it."""
    return f"{value:g}" if value != int(value) or abs(value) >= 1e21 else str(int(value))
