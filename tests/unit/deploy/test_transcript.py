"""The form in which labs are written down: parsing, patterns, JSON."""

from __future__ import annotations

import pytest

from tests.lab.transcript import Mismatch, filled, match, parse

LAB = """\
# A remark.
=compose.yml
services:
  web:
=
manager$ docker network ls -f "scope=swarm"
NETWORK ID    NAME
{id12=NET}    test

worker1~ docker network rm {=NET}
nothing
[exit 1]
worker1> exit
"""


def test_parsing() -> None:
    file, listing, removal, leaving = parse(LAB)
    assert (file.how, file.typed, file.expected) == ("=", "compose.yml", ("services:", "  web:"))
    assert (listing.machine, listing.how, listing.reads) == ("manager", "$", True)
    assert listing.expected == ("NETWORK ID    NAME", "{id12=NET}    test")
    assert (removal.how, removal.exit, removal.reads) == ("~", 1, False)
    assert (leaving.how, leaving.typed) == (">", "exit")
    with pytest.raises(ValueError, match="line 1: output before any command"):
        parse("what is this\n")


def test_by_another_program() -> None:
    (step,) = parse("manager$ docker run -d docker-registry\ndocker: no docker_gwbridge, see docker engine\n")
    assert step.by("shoal").typed == "shoal run -d docker-registry"
    assert step.by("shoal").expected == ("shoal: no docker_gwbridge, see docker engine",)


def test_lines() -> None:
    known = match(("ID  NAME", "{id12=A}   {word} *"), "ID NAME\n\nabcdef012345 one  *\n", {})
    assert known == {"A": "abcdef012345"}
    assert match(("...", "last {=A:4}"), "first\nsecond\nlast abcd\n", known) == known
    assert match(("{=A}", "..."), "abcdef012345\nmore\n", known) == known
    for expected, printed in (
        (("one",), "one\ntwo\n"),
        (("one", "two"), "one\n"),
        (("{n}",), "many\n"),
        (("...", "two"), "one\n"),
        (("{=A}",), "other\n"),
        ((), "anything\n"),
    ):
        with pytest.raises(Mismatch):
            match(expected, printed, known)


def test_any_order() -> None:
    match(("(any order)", "b {n}", "a"), "a\nb 1\n", {})
    for printed in ("a\n", "a\nb 1\nc\n"):
        with pytest.raises(Mismatch):
            match(("(any order)", "b {n}", "a"), printed, {})


def test_json() -> None:
    expected = (
        '[{"Id": "{id12=NET}", "Index": "{n}", "Containers": {"+{hex12}": {"Name": "{word}"}, "lb": {}},',
        '"Peers": [{"IP": "{=one}"}, {"IP": "{=two}"}], "Labels": null}]',
    )
    given = (
        '[{"Id": "abcdef012345", "Index": 40, "Containers": {"lb": {}, "0123456789ab": {"Name": "x"}, '
        '"ba9876543210": {"Name": "y"}}, "Peers": [{"IP": "b"}, {"IP": "a"}], "Labels": null}]'
    )
    names = {"one": "a", "two": "b"}
    assert match(expected, given, names) == {**names, "NET": "abcdef012345"}
    for changed in (
        given.replace('"Labels": null', '"Labels": {}'),
        given.replace('"lb"', '"nb"'),
        given.replace('"IP": "b"', '"IP": "c"'),
        given.replace('"Labels"', '"More": 1, "Labels"'),
        given.replace("40", "true"),
        given.replace('{"IP": "b"}, ', ""),
        "no JSON",
    ):
        with pytest.raises(Mismatch):
            match(expected, changed, names)


def test_commands_are_filled() -> None:
    known = {"C": "0123456789ab"}
    assert (
        filled("exec {=C:4} {=C} --format '{{.ID}} {}'", known)
        == "exec 0123 0123456789ab --format '{{.ID}} {}'"
    )
