"""The backup's file: what goes in comes out, every changed byte is noticed, and each refusal says what is wrong."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import errors
from manager import backup
from manager.backup import About, SealedBy

SALT, NONCE = b"s" * backup.SALT_BYTES, b"n" * backup.NONCE_BYTES
CONTENT = bytes(range(256)) * 3


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """The real cost is for whoever guesses passphrases; one test below uses it."""
    monkeypatch.setattr(backup, "_COST", {"n": 2, "r": 1, "p": 1})


def made(sealed=SealedBy.NOTHING, key="", content=CONTENT):
    return backup.write(content, "cluster", "node", 5, 7, sealed, key, SALT, NONCE)


def refused(data, key=""):
    with pytest.raises(errors.InvalidArgument) as caught:
        backup.read(data, key)
    return caught.value.message


KINDS = [(SealedBy.NOTHING, ""), (SealedBy.PASSPHRASE, "pässword"), (SealedBy.UNLOCK_KEY, "SWMKEY-1-abc")]


@pytest.mark.parametrize(("sealed", "key"), KINDS)
@settings(deadline=None, max_examples=30)
@given(content=st.binary(max_size=5000))
def test_what_goes_in_comes_out(sealed, key, content):
    about, found = backup.read(made(sealed, key, content), key)
    assert found == content
    assert (about.cluster, about.node, about.created, about.index, about.sealed) == (
        "cluster", "node", 5, 7, sealed,
    )  # fmt: skip


@pytest.mark.parametrize(("sealed", "key"), KINDS)
def test_every_changed_byte_is_noticed(sealed, key):
    data = made(sealed, key)
    for place in range(len(data)):
        for bit in (1, 0x80):
            hurt = bytearray(data)
            hurt[place] ^= bit
            text = refused(bytes(hurt), key)
            assert text == (backup.NOT_A_BACKUP if place < len(b"SHOAL-BACKUP-") else backup.DAMAGED)


@pytest.mark.parametrize(("sealed", "key"), KINDS)
def test_a_part_or_more_than_the_whole_is_noticed(sealed, key):
    data = made(sealed, key)
    for length in range(len(data)):
        assert refused(data[:length], key) in (backup.DAMAGED, backup.NOT_A_BACKUP)
    assert refused(data + b"\0", key) == backup.DAMAGED


def test_the_real_cost_of_a_passphrase(monkeypatch):
    monkeypatch.undo()
    data = made(SealedBy.PASSPHRASE, "secret")
    assert backup.about(data).n == 1 << 15
    assert backup.read(data, "secret")[1] == CONTENT


def test_keys_are_asked_for_and_judged():
    data = made(SealedBy.PASSPHRASE, "right")
    assert refused(data) == backup.NO_PASSPHRASE
    assert refused(data, "wrong") == backup.WRONG_PASSPHRASE
    data = made(SealedBy.UNLOCK_KEY, "SWMKEY-1-right")
    assert refused(data) == backup.NO_UNLOCK_KEY
    assert refused(data, "SWMKEY-1-wrong") == backup.WRONG_UNLOCK_KEY


def test_a_key_for_what_is_not_sealed_is_no_error():
    assert backup.read(made(), "whatever")[1] == CONTENT


def test_nothing_of_a_sealed_content_is_readable():
    assert b"needle" * 20 not in made(SealedBy.PASSPHRASE, "k", b"needle" * 20)
    assert made(SealedBy.PASSPHRASE, "k").count(b"\n", 0, 400) >= 2
    assert backup.about(made(SealedBy.PASSPHRASE, "k")).sealed is SealedBy.PASSPHRASE


def again(data, old, new):
    """The file with its head changed and a checksum that fits."""
    whole = data[:-32].replace(old, new, 1)
    assert whole != data[:-32]
    return whole + hashlib.sha256(whole).digest()


def test_a_newer_format_is_named():
    assert refused(again(made(), b"BACKUP-1\n", b"BACKUP-12\n")) == backup.NEWER.format("12")


def test_the_head_is_bound_to_the_seal():
    data = made(SealedBy.PASSPHRASE, "right")
    assert refused(again(data, b'"node": "node"', b'"node": "mode"'), "right") == backup.WRONG_PASSPHRASE


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"n": 2', b'"n": 99999999999'), (b'"r": 1', b'"r": -1'), (b'"p": 1', b'"p": 99'), (b'"n": 2', b'"n": 3'),
     (b'"sealed"', b'"selaed"'), (b'"index"', b'"other"'), (b"{", b"[")],
)  # fmt: skip
def test_a_head_that_makes_no_sense_is_damage(old, new):
    assert refused(again(made(SealedBy.PASSPHRASE, "right"), old, new), "right") == backup.DAMAGED


def test_the_head_is_a_line_for_people():
    head = made(SealedBy.PASSPHRASE, "k").split(b"\n")[1]
    assert json.loads(head)["sealed"] == "passphrase"
    assert backup.about(made()) == About("cluster", "node", 5, 7)
