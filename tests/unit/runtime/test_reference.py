"""References as Docker reads and prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime import reference
from common.errors import InvalidArgument

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:alpine", "docker.io/library/nginx:alpine", "nginx:alpine"),
        ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx", "nginx"),
        ("me/app", "docker.io/me/app", "me/app"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("10.0.0.1:5000/a/b:v1.2_3-x", "10.0.0.1:5000/a/b:v1.2_3-x", "10.0.0.1:5000/a/b:v1.2_3-x"),
        ("[fd00::1]:5000/a", "[fd00::1]:5000/a", "[fd00::1]:5000/a"),
        ("Registry/app", "Registry/app", "Registry/app"),
        ("reg.example/a__b.c--d", "reg.example/a__b.c--d", "reg.example/a__b.c--d"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}", f"nginx:1@{DIGEST}"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
    ],
)
def test_forms(text: str, canonical: str, familiar: str) -> None:
    parsed = reference.parse(text)
    assert (parsed.canonical, parsed.familiar) == (canonical, familiar)
    assert reference.parse(parsed.canonical) == parsed
    assert reference.parse(parsed.familiar) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("Bad Image", "invalid reference format: repository name must be lowercase"),
        ("me/App", "invalid reference format: repository name must be lowercase"),
        ("a b", "invalid reference format"),
        ("nginx:", "invalid reference format"),
        ("nginx:-x", "invalid reference format"),
        ("nginx@sha256:12", "invalid reference format"),
        ("nginx@sha512:" + "ab" * 64, "invalid reference format: unsupported digest algorithm or length"),
        ("/nginx", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/b/", "invalid reference format"),
        ("ab" * 32, f"invalid repository name ({'ab' * 32}), cannot specify 64-byte hexadecimal strings"),
        ("a" * 300, "repository name must not be more than 255 characters"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        reference.parse(text)
    assert raised.value.message == message


def test_latest_is_meant_where_nothing_is_said() -> None:
    assert reference.parse("nginx").tagged().canonical == "docker.io/library/nginx:latest"
    assert reference.parse(f"nginx@{DIGEST}").tagged().tag == ""
    both = reference.parse(f"nginx:1@{DIGEST}")
    assert both.wanted == DIGEST
    assert both.with_digest(DIGEST).familiar == f"nginx@{DIGEST}"


@given(st.text(max_size=80))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parsed = reference.parse(text)
    except InvalidArgument:
        return
    assert reference.parse(parsed.canonical) == parsed


def test_ids() -> None:
    assert reference.looks_like_id("abc")
    assert reference.looks_like_id(DIGEST)
    assert not reference.looks_like_id("ab")
    assert not reference.looks_like_id("nginx")
