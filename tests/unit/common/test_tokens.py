"""Join tokens, in Docker's form."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import errors, tokens

DOCKERS = "SWMTKN-1-4jr2q0a8nar97uzf8u94r04eo4ogrw6281z43pw8ahoyuvny2p-29vxh76c2xrjdurj7t99nck0v"


def test_a_token_of_dockers_is_read_and_written_back() -> None:
    token = tokens.parse(DOCKERS)
    assert str(token) == DOCKERS
    assert len(bytes.fromhex(token.digest)) == 32
    assert len(token.secret) == 16


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_any_token_comes_back(digest: bytes, secret: bytes) -> None:
    token = tokens.generate(digest.hex(), secret)
    text = str(token)
    assert len(text) == 9 + 50 + 1 + 25
    assert tokens.parse(text) == token


@given(st.text(max_size=100))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(errors.ShoalError, match=r"^invalid join token$"):
        tokens.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        DOCKERS.replace("SWMTKN-1", "SWMTKN-2"),
        DOCKERS.upper(),
        DOCKERS[:-1],
        DOCKERS + "0",
        DOCKERS + "-x",
        "SWMTKN-1-" + "z" * 50 + "-" + "z" * 25,
        DOCKERS.replace("-29v", "-29V"),
        "",
    ],
)
def test_what_is_nearly_a_token_is_refused(text: str) -> None:
    with pytest.raises(errors.ShoalError, match=r"^invalid join token$"):
        tokens.parse(text)


def test_the_digest_is_over_the_pem() -> None:
    assert tokens.root_digest(b"some pem") == hashlib.sha256(b"some pem").hexdigest()


def test_the_secret_is_not_shown() -> None:
    token = tokens.parse(DOCKERS)
    assert str(token.secret) not in repr(token)
    with pytest.raises(ValueError, match="16 bytes"):
        tokens.generate(token.digest, b"short")
