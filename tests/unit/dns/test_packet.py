"""Queries read and replies written, judged by an independent library."""

from __future__ import annotations

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSQuestion, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from agent.dns import packet
from agent.dns.zone import NOTHING, Found, Srv


def query(name: str, kind: str = "A", size: int = 0) -> bytes:
    made = DNSRecord.question(name, kind)
    if size:
        made.add_ar(EDNS0(udp_len=size))
    return bytes(made.pack())


def reply(data: bytes, found: Found, limit: int = 512, turn: int = 0) -> DNSRecord:
    question = packet.read_question(data)
    return DNSRecord.parse(packet.answer(data, question, found, limit, turn))


def test_question() -> None:
    data = query("Tasks.Web.", "AAAA", 4096)
    question = packet.read_question(data)
    assert (question.name, question.kind, question.klass, question.udp_size) == ("tasks.web", 28, 1, 4096)
    assert packet.udp_limit(question) == 1232
    assert packet.udp_limit(packet.read_question(query("x"))) == 512


def test_answer_has_the_questions_letters_and_id() -> None:
    data = query("WeB")
    parsed = reply(data, Found(("10.0.0.1", "10.0.0.2")))
    assert parsed.header.id == DNSRecord.parse(data).header.id
    assert str(parsed.q.qname) == "WeB."
    assert [str(record.rdata) for record in parsed.rr] == ["10.0.0.1", "10.0.0.2"]
    assert all(record.ttl <= 5 and str(record.rname) == "WeB." for record in parsed.rr)
    assert parsed.header.ra
    assert parsed.header.rd


def test_rotation() -> None:
    found = Found(("10.0.0.1", "10.0.0.2", "10.0.0.3"))
    assert [str(r.rdata) for r in reply(query("x"), found, turn=1).rr] == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]


def test_types() -> None:
    assert str(reply(query("x", "AAAA"), Found(("fd00::1",))).rr[0].rdata) == "fd00::1"
    pointer = reply(query("1.0.0.10.in-addr.arpa", "PTR"), Found(pointer="web.1.x.net")).rr[0]
    assert str(pointer.rdata) == "web.1.x.net."
    service = reply(query("_http._tcp.web", "SRV"), Found(services=(Srv(80, "web"),))).rr[0].rdata
    assert (service.port, str(service.target)) == (80, "web.")
    empty = reply(query("x"), NOTHING)
    assert (empty.header.rcode, empty.rr) == (0, [])


def test_long_answers() -> None:
    found = Found(tuple(f"10.0.0.{n}" for n in range(1, 51)))
    short = reply(query("tasks.web"), found, 512)
    assert short.header.tc
    assert short.rr == []
    data = query("tasks.web", size=4096)
    full = reply(data, found, packet.udp_limit(packet.read_question(data)))
    assert not full.header.tc
    assert len(full.rr) == 50
    assert full.ar[0].rtype == QTYPE.OPT
    assert len(reply(query("x"), found, packet.TCP_MOST).rr) == 50


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (b"\x00" * 11, None),
        (query("x")[:2] + b"\x81\x80" + query("x")[4:], None),  # a reply
        (query("x")[:2] + b"\x28\x00" + query("x")[4:], packet.NOTIMP),
        (query("x")[:4] + b"\x00\x00" + query("x")[6:], packet.FORMERR),
        (query("x")[:4] + b"\x00\x02" + query("x")[6:], packet.FORMERR),
        (query("x")[:-1], packet.FORMERR),
        (query("x")[:12] + b"\xc0\x0c\x00\x01\x00\x01", packet.FORMERR),
        (query("x")[:12] + b"\x3f" * 300, packet.FORMERR),
    ],
)
def test_malformed(data: bytes, rcode: int | None) -> None:
    with pytest.raises(packet.Malformed) as raised:
        packet.read_question(data)
    assert raised.value.rcode == rcode
    if rcode is not None:
        assert DNSRecord.parse(packet.failure(data, rcode)).header.rcode == rcode


def test_failure_repeats_the_question() -> None:
    parsed = DNSRecord.parse(packet.failure(query("no.such", size=1232), packet.NXDOMAIN))
    assert (RCODE[parsed.header.rcode], str(parsed.q.qname)) == ("NXDOMAIN", "no.such.")


def test_only_the_same_question_is_answered() -> None:
    asked = query("one.example")
    parsed = DNSRecord.parse(asked)
    assert packet.same_question(asked, bytes(parsed.reply().pack()))
    other = DNSRecord(q=DNSQuestion("two.example")).reply()
    assert not packet.same_question(asked, bytes(other.pack()))


@given(st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    try:
        question = packet.read_question(data)
    except packet.Malformed as error:
        if error.rcode is not None:
            packet.failure(data, error.rcode)
        return
    packet.answer(data, question, Found(("10.0.0.1",)), packet.udp_limit(question))


@given(st.binary(max_size=100))
def test_any_bytes_behind_a_header(rest: bytes) -> None:
    data = query("x")[:12] + rest
    try:
        question = packet.read_question(data)
    except packet.Malformed:
        return
    parsed = packet.answer(data, question, Found(("10.0.0.1",)), 512)
    assert parsed[:2] == data[:2]
    assert packet.same_question(data, parsed)


LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63)


@given(st.lists(LABEL, min_size=1, max_size=3), st.sampled_from(["A", "AAAA", "SRV", "PTR", "MX"]))
def test_names_come_through(labels: list[str], kind: str) -> None:
    question = packet.read_question(query(".".join(labels), kind, 1232))
    assert question.name == ".".join(labels)
    assert question.kind == getattr(QTYPE, kind)
