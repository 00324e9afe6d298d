"""DNS messages: the question read, the answer written. Pure, no parser of whole messages.

Only the question of a query is ever looked at, and its EDNS option; answers repeat the question's bytes as they came
(so that its letters keep their case) and point at it. Anything odd is a `Malformed`, never another exception.
"""

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.dns.zone import Found, Type

HEADER = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_TYPE_CLASS = struct.Struct("!HH")
_SRV = struct.Struct("!HHH")

IN, OPT = 1, 41
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP = 0, 1, 2, 3, 4
QR, TC, RD, RA, CD = 0x8000, 0x0200, 0x0100, 0x0080, 0x0010
_OPCODE = 0x7800
UDP_PLAIN = 512
UDP_MOST = 1232  # larger ones may be fragmented on the way
TCP_MOST = 65535
TTL = 5


class Malformed(ValueError):
    """Not a query that can be answered; `rcode` says what to tell the client, None nothing at all."""

    def __init__(self, rcode: int | None) -> None:
        super().__init__(f"malformed query, rcode {rcode}")
        self.rcode = rcode


@dataclass(frozen=True, slots=True)
class Question:
    id: int
    flags: int
    name: str  # lower case, no dot at the end
    kind: int
    klass: int
    end: int  # of the question section
    udp_size: int  # that the client takes; 0 without EDNS


def read_question(data: bytes) -> Question:
    """The one question of a query."""
    if len(data) < HEADER.size:
        raise Malformed(None)
    id, flags, questions, answers, authorities, additional = HEADER.unpack_from(data)
    if flags & QR:
        raise Malformed(None)
    if flags & _OPCODE:
        raise Malformed(NOTIMP)
    if questions != 1 or answers or authorities:
        raise Malformed(FORMERR)
    name, at = _read_name(data, HEADER.size)
    if at + 4 > len(data):
        raise Malformed(FORMERR)
    kind, klass = _TYPE_CLASS.unpack_from(data, at)
    udp_size = _edns_size(data, at + 4) if additional else 0
    return Question(id, flags, name, kind, klass, at + 4, udp_size)


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    """A name without compression (a question has nothing to point at)."""
    labels: list[str] = []
    start = at
    while True:
        if at >= len(data) or at - start > 254:
            raise Malformed(FORMERR)
        length = data[at]
        at += 1
        if length == 0:
            return ".".join(labels), at
        if length > 63 or at + length > len(data):
            raise Malformed(FORMERR)
        # A dot inside a label can't be told from one between labels; no name of ours has one.
        labels.append(data[at : at + length].decode("latin-1").lower().replace(".", "\\."))
        at += length


def _edns_size(data: bytes, at: int) -> int:
    """The size in an OPT record that stands first among the additional ones, where every client puts it."""
    if at + 1 + _FIXED.size > len(data) or data[at] != 0:
        return 0
    kind, size, _, _ = _FIXED.unpack_from(data, at + 1)
    return max(size, UDP_PLAIN) if kind == OPT else 0


def answer(data: bytes, question: Question, found: Found, limit: int, turn: int = 0) -> bytes:
    """The reply with what was found, addresses rotated by `turn`; if it is too long, empty and marked so."""
    records = list(_records(found, turn))
    opt = _opt() if question.udp_size else b""
    body = b"".join(records)
    if question.end + len(body) + len(opt) > limit:
        return _reply(data, question, TC, 0, 0, opt)
    return _reply(data, question, 0, NOERROR, len(records), body + opt)


def failure(data: bytes, rcode: int) -> bytes:
    """A reply without data: to a question that was read, the question is repeated; else the header alone."""
    try:
        question = read_question(data)
    except Malformed:
        id, flags = struct.unpack_from("!HH", data)
        return HEADER.pack(id, QR | RA | flags & (_OPCODE | RD) | rcode, 0, 0, 0, 0)
    return _reply(data, question, 0, rcode, 0, _opt() if question.udp_size else b"")


def udp_limit(question: Question) -> int:
    return min(question.udp_size, UDP_MOST) if question.udp_size else UDP_PLAIN


def same_question(query: bytes, reply: bytes) -> bool:
    """Does a reply answer this query? Names are compared without regard to case."""
    end = _question_end(query)
    if end is None or len(reply) < end:
        return len(reply) >= HEADER.size and bool(reply[3] & 0x0F)  # an error may come without the question
    questions = reply[4:6] == b"\x00\x01"
    return questions and query[HEADER.size : end].lower() == reply[HEADER.size : end].lower()


def is_reply(data: bytes) -> bool:
    return len(data) >= HEADER.size and bool(data[2] & 0x80)


def rcode_of(reply: bytes) -> int:
    return reply[3] & 0x0F


def _question_end(query: bytes) -> int | None:
    try:
        return read_question(query).end
    except Malformed:
        return None


def _reply(data: bytes, question: Question, flags: int, rcode: int, count: int, rest: bytes) -> bytes:
    """Header, the question as it came, then records of which `count` are answers; OPT comes last."""
    flags |= QR | RA | question.flags & (RD | CD) | rcode
    header = HEADER.pack(question.id, flags, 1, count, 0, 1 if question.udp_size else 0)
    return header + data[HEADER.size : question.end] + rest


def _records(found: Found, turn: int) -> Iterator[bytes]:
    if found.addresses:
        turn %= len(found.addresses)
        for address in found.addresses[turn:] + found.addresses[:turn]:
            packed = ipaddress.ip_address(address).packed
            yield _record(Type.A if len(packed) == 4 else Type.AAAA, packed)
    if found.pointer and fits(found.pointer):  # a container's name may be longer than one in DNS
        yield _record(Type.PTR, write_name(found.pointer))
    for service in found.services:
        yield _record(Type.SRV, _SRV.pack(0, 0, service.port) + write_name(service.target))


def _record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + _FIXED.pack(kind, IN, TTL, len(data)) + data


def _opt() -> bytes:
    return b"\x00" + _FIXED.pack(OPT, UDP_MOST, 0, 0)


def _labels(name: str) -> Sequence[bytes]:
    return [label.encode() for label in name.split(".") if label]


def fits(name: str) -> bool:
    """Whether it can be one in DNS."""
    labels = _labels(name)
    return all(len(label) <= 63 for label in labels) and sum(len(label) + 1 for label in labels) <= 254


def write_name(name: str) -> bytes:
    """A name of ours; ValueError if it can't be one."""
    labels = _labels(name)
    if not fits(name):
        raise ValueError(f"{name!r} is too long for a name")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\x00"
