"""The keys by which a client leaves a terminal."""

import pytest

from common import detach_keys, errors


def test_what_clients_may_ask_for() -> None:
    assert detach_keys.parse("") == b"\x10\x11"
    assert detach_keys.parse("ctrl-a,x") == b"\x01x"
    assert detach_keys.parse("ctrl-[") == b"\x1b"
    with pytest.raises(errors.InvalidArgument, match="Invalid detach keys"):
        detach_keys.parse("ctrl-ä")


def test_they_are_found_however_they_arrive() -> None:
    watch = detach_keys.Watch(b"\x10\x11")
    assert watch.feed(b"ls\n") == (b"ls\n", False)
    assert watch.feed(b"a\x10") == (b"a", False)
    assert watch.feed(b"b") == (b"\x10b", False)
    assert watch.feed(b"\x10") == (b"", False)
    assert watch.feed(b"\x11more") == (b"", True)
    assert watch.feed(b"x\x10\x11") == (b"x", True)
