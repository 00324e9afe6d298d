"""What `shoal logs` and `shoal service logs` have in common: flags, moments, and output that is passed on as it is."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Final, TextIO

from cli.command import Session
from cli.errors import CliError
from cli.flags import Flag
from cli.output.frames import STDERR, frames
from cli.output.units import SECOND, parse_time
from cli.values.basic import BOOL, STRING, duration

_FORMS: Final = '(e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'

DETAILS = Flag("details", BOOL, "Show extra details provided to logs")
FOLLOW = Flag("follow", BOOL, "Follow log output", short="f")
SINCE = Flag("since", STRING, f"Show logs since timestamp {_FORMS}")
UNTIL = Flag("until", STRING, f"Show logs before a timestamp {_FORMS}")
TAIL = Flag(
    "tail",
    STRING,
    "Number of lines to show from the end of the logs",
    short="n",
    default="all",
    shown='"all"',
)
TIMESTAMPS = Flag("timestamps", BOOL, "Show timestamps", short="t")


def timestamp(text: str, now: int) -> str:
    """A moment as the API takes it: from a duration before now, seconds since 1970, or a date."""
    try:
        return str((now - duration(text)) // SECOND)
    except ValueError:
        pass
    if text.replace(".", "", 1).isdigit():
        return text
    for form in (text, f"{text}Z", f"{text}:00Z", f"{text}:00:00Z", f"{text}T00:00:00Z"):
        moment = parse_time(form)
        if moment:
            return f"{moment // SECOND}.{moment % SECOND:09d}"
    raise CliError(f'invalid value for "since": failed to parse value as time or duration: "{text}"')


def copy(session: Session, response: http.client.HTTPResponse, terminal: bool) -> None:
    """Passes on what a process has written: with a terminal one raw stream, otherwise two in frames."""
    out, err = raw(session.out), raw(session.err)
    if terminal:
        while piece := session.client.piece(response):
            out(piece)
        return
    for stream, payload in frames(response):
        (err if stream == STDERR else out)(payload)


def raw(stream: TextIO) -> Callable[[bytes], None]:
    """Writes bytes as they are, also where a character lies in two pieces."""
    buffer = getattr(stream, "buffer", None)

    def write(data: bytes) -> None:
        if buffer is None:
            stream.write(data.decode(errors="replace"))
        else:
            stream.flush()
            buffer.write(data)
            buffer.flush()

    return write
