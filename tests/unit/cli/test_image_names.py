"""Names of images."""

from __future__ import annotations

import pytest

from cli.values.images import Image, familiar, pinned, with_default_tag

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "tagged"),
    [
        ("nginx", "nginx:latest"),
        ("nginx:alpine", "nginx:alpine"),
        ("docker.io/library/nginx", "nginx:latest"),
        ("library/nginx", "nginx:latest"),
        ("user/app:1", "user/app:1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry.example/a/b:2", "registry.example/a/b:2"),
        (f"nginx@{DIGEST}", f"nginx@{DIGEST}"),
        ("Bad Image", "Bad Image"),
    ],
)
def test_default_tag(text: str, tagged: str) -> None:
    assert with_default_tag(text) == tagged


def test_lists_leave_out_the_digest_beside_a_tag() -> None:
    assert familiar(f"nginx:latest@{DIGEST}") == "nginx:latest"
    assert familiar(f"nginx@{DIGEST}") == f"nginx@{DIGEST}"


def test_pinning_keeps_the_tag_and_an_earlier_digest() -> None:
    assert pinned("nginx", DIGEST) == f"nginx:latest@{DIGEST}"
    other = "sha256:" + "b" * 64
    assert pinned(f"nginx:1@{other}", DIGEST) == f"nginx:1@{other}"


def test_where_an_image_is() -> None:
    image = Image("nginx")
    assert (image.domain, image.path) == ("docker.io", "library/nginx")
    with pytest.raises(ValueError, match="must be lowercase"):
        Image("Nginx")
