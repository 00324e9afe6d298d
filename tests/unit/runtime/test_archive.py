"""Archives: OCI layouts and what `docker save` writes, old and new."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime import archive
from agent.runtime import manifest as m
from agent.runtime.image import Platform
from common.errors import InvalidArgument

PLATFORM = Platform("amd64", "linux")
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": []}}).encode()


def tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            made.addfile(info)
    return out


@contextmanager
def opened(tmp_path: Path, data: bytes) -> Iterator[archive.Archive]:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with path.open("rb") as file:
        yield archive.Archive(file)


def test_docker_save(tmp_path: Path) -> None:
    layer = b"layer" * 100
    listed = [
        {"Config": "c.json", "RepoTags": ["web:1"], "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}
    ]
    files = {
        "c.json": CONFIG, "a/layer.tar": layer, "c/layer.tar": gzip.compress(layer),
        "./manifest.json": json.dumps(listed).encode(),
    }  # fmt: skip
    with opened(tmp_path, tar(files, {"b/layer.tar": "../a/layer.tar"}).getvalue()) as made:
        (found,) = made.images(PLATFORM)
    assert found.names == ("web:1",)
    parsed = m.parse_manifest(m.parse_json(found.manifest, "manifest"))
    assert parsed.config.digest == m.digest_of(CONFIG)
    assert [item.media_type for item in parsed.layers] == [
        m.DOCKER_LAYER,
        m.DOCKER_LAYER,
        m.DOCKER_LAYER_GZIP,
    ]
    assert parsed.layers[0] == parsed.layers[1]


async def test_oci_layout_with_platforms(tmp_path: Path) -> None:
    blobs: dict[str, bytes] = {}

    def add(value: object) -> dict[str, object]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    config = add({"architecture": "amd64", "os": "linux"})
    right = add({"schemaVersion": 2, "mediaType": m.OCI_MANIFEST, "config": config, "layers": []})
    wrong = add({"schemaVersion": 2, "mediaType": m.OCI_MANIFEST, "config": config, "layers": [], "x": 1})
    right["platform"], wrong["platform"] = (
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm", "os": "linux"},
    )
    nested = add({"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": [wrong, right]})
    nested["annotations"] = {"io.containerd.image.name": "docker.io/library/web:1"}
    index = json.dumps({"schemaVersion": 2, "manifests": [nested]}).encode()
    with opened(tmp_path, tar({**blobs, "index.json": index}).getvalue()) as made:
        (found,) = made.images(PLATFORM)
        assert found.names == ("docker.io/library/web:1",)
        assert m.digest_of(found.manifest) == right["digest"]
        parsed = m.parse_manifest(m.parse_json(found.manifest, "manifest"))
        data = b"".join([chunk async for chunk in made.read(parsed.config, 3)])
    assert data == blobs[f"blobs/sha256/{str(config['digest'])[7:]}"][3:]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"manifest.json": b"{}"},
        {"manifest.json": b"["},
        {"manifest.json": b'[{"Config": "../../etc/passwd", "Layers": []}]'},
        {"manifest.json": b'[{"Config": "c", "Layers": ["gone"]}]', "c": CONFIG},
        {"index.json": b'{"manifests": [{"digest": "sha256:..", "size": 1}]}'},
    ],
)
def test_odd_archives_are_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(InvalidArgument), opened(tmp_path, tar(files).getvalue()) as made:
        made.images(PLATFORM)


@given(st.binary(max_size=2000))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with pytest.raises(InvalidArgument), opened(tmp_path_factory.mktemp("a"), data) as made:
        made.images(PLATFORM)
