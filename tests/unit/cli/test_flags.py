"""Flags: GNU style with Go's corner cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.errors import FlagError
from cli.flags import Flag, HelpWanted, parse
from cli.values.basic import BOOL, LIST, STRING, UINT
from cli.values.ports import PORTS

FLAGS = (
    Flag("detach", BOOL, "", short="d"),
    Flag("init", BOOL, ""),
    Flag("name", STRING, "", default="none"),
    Flag("env", LIST, "", short="e"),
    Flag("publish", PORTS, "", short="p"),
    Flag("replicas", UINT, ""),
)


@pytest.mark.parametrize(
    "words",
    [["-p80"], ["-p=80"], ["-p", "80"], ["--publish", "80"], ["--publish=80"], ["-dp", "80"], ["-dp80"]],
)
def test_one_port_in_every_spelling(words: list[str]) -> None:
    values, arguments = parse(FLAGS, words)
    assert [port["TargetPort"] for port in values.every("publish")] == [80]
    assert arguments == []


@pytest.mark.parametrize(("word", "expected"), [("-d", True), ("--detach", True), ("--detach=false", False)])
def test_booleans_take_their_value_behind_the_sign(word: str, expected: bool) -> None:
    values, arguments = parse(FLAGS, [word, "false"])
    assert values.on("detach") is expected
    assert arguments == ["false"]


def test_flags_end_at_the_first_argument_if_not_interspersed() -> None:
    values, arguments = parse(FLAGS, ["-d", "alpine", "sh", "-c", "-e", "x"], interspersed=False)
    assert arguments == ["alpine", "sh", "-c", "-e", "x"]
    assert values.every("env") == []


def test_flags_between_arguments_and_after_the_terminator() -> None:
    values, arguments = parse(FLAGS, ["web", "-e", "A=1", "--", "-d"])
    assert arguments == ["web", "-d"]
    assert values.every("env") == ["A=1"]
    assert not values.on("detach")


def test_what_was_given_differs_from_what_is_default() -> None:
    values, _ = parse(FLAGS, [])
    assert values.text("name") == "none"
    assert not values.changed("name")
    values, _ = parse(FLAGS, ["--name", "none"])
    assert values.changed("name")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-dx"], "unknown shorthand flag: 'x' in -dx"),
        (["--name"], "flag needs an argument: --name"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["--=x"], "bad flag syntax: --=x"),
        (
            ["--replicas", "-1"],
            'invalid argument "-1" for "--replicas" flag: strconv.ParseUint: parsing "-1": invalid syntax',
        ),
        (
            ["--detach=maybe"],
            'invalid argument "maybe" for "-d, --detach" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_bad_flags(words: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(FLAGS, words)
    assert caught.value.message == message
    assert caught.value.code == 125


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help(word: str) -> None:
    with pytest.raises(HelpWanted):
        parse(FLAGS, ["web", word])


@given(st.lists(st.text(min_size=1).filter(lambda text: not text.startswith("-"))))
def test_words_that_are_no_flags_stay_as_they_are(words: list[str]) -> None:
    assert parse(FLAGS, words)[1] == words
