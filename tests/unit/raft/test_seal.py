"""Keys at rest: the file says what is wrong with it, a lock opens with its own key only, data keys are replaced."""

import base64
import random
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from manager.raft.seal import (
    Damaged,
    Locked,
    Sealer,
    WrongKey,
    create_key,
    load_key,
    new_keys,
    read_keys,
    unlock,
)

UNLOCK = bytes(range(32))


def test_key_file(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    sealed = create_key(path).seal(b"x", b"c")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).open(sealed, b"c") == b"x"
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        load_key(path)
    path.chmod(0o600)
    for wrong in ("something else", "", "SHOAL-KEY-1\nplain 0\n"):
        path.write_text(wrong)
        with pytest.raises(Damaged, match="no key file"):
            load_key(path)


def test_any_changed_byte_of_a_key_file_is_named(tmp_path: Path) -> None:
    path, rng = tmp_path / "seal.key", random.Random(1)
    for keys in (new_keys(), new_keys().locked_by(UNLOCK, 3)):
        keys.save(path)
        whole = path.read_bytes()
        for place in range(len(whole)):
            data = bytearray(whole)
            data[place] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            with pytest.raises(Damaged, match=r"seal.key is damaged"):
                read_keys(path)


def test_a_lock_opens_with_its_own_key_only(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    keys = new_keys()
    sealed = keys.sealer().seal(b"x", b"c")
    keys.locked_by(UNLOCK, 3).save(path)
    found = read_keys(path)
    assert (found.locked, found.generation) == (True, 3)
    assert base64.b64encode(keys.keys[1]) not in path.read_bytes()
    with pytest.raises(Locked):
        unlock(found)
    with pytest.raises(Locked):
        load_key(path)
    for wrong in (bytes(32), b"short"):
        with pytest.raises(WrongKey):
            unlock(found, wrong)
    opened = unlock(found, UNLOCK)
    assert opened.sealer().open(sealed, b"c") == b"x"
    assert (opened.unlock_key, opened.generation) == (UNLOCK, 3)
    opened.locked_by(b"", 4).save(path)
    assert load_key(path).open(sealed, b"c") == b"x"
    assert read_keys(path).generation == 4


def test_a_new_data_key_stands_beside_the_old_one_until_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    first = new_keys()
    old = first.sealer().seal(b"old", b"c")
    both = first.with_new_key().locked_by(UNLOCK, 1)
    assert not first.rotating and both.rotating
    both.save(path)
    loaded = unlock(read_keys(path), UNLOCK)
    assert loaded.rotating
    new = loaded.sealer().seal(b"new", b"c")
    assert loaded.sealer().open(old, b"c") == b"old"
    loaded.without_old_keys().save(path)
    last = unlock(read_keys(path), UNLOCK)
    assert not last.rotating
    assert last.sealer().open(new, b"c") == b"new"
    with pytest.raises(InvalidTag):
        last.sealer().open(old, b"c")


def test_what_was_sealed_for_another_use_does_not_open() -> None:
    sealer = Sealer(UNLOCK)
    sealed = sealer.seal(b"x", b"log 1")
    assert len(sealed) == 1 + Sealer.OVERHEAD
    for context in (b"log 2", b""):
        with pytest.raises(InvalidTag):
            sealer.open(sealed, context)
    with pytest.raises(InvalidTag):
        sealer.open(sealed[: Sealer.OVERHEAD - 1], b"log 1")
