"""Manifests, indexes and configurations."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime import manifest as m
from agent.runtime.image import Descriptor, Platform
from common.errors import InvalidArgument, NotFound

AMD, ARM = Platform("amd64", "linux"), Platform("arm64", "linux", "v8")


def entry(architecture: str, variant: str = "", system: str = "linux") -> m.IndexEntry:
    name = f"{system}/{architecture}/{variant}"
    return m.IndexEntry(Descriptor(m.OCI_MANIFEST, name, 1), Platform(architecture, system, variant), {})


def test_the_nodes_platform_is_chosen() -> None:
    entries = [
        entry("arm", "v6"), entry("arm64", ""), entry("amd64", system="windows"), entry("amd64"), entry("unknown"),
    ]  # fmt: skip
    assert m.choose(entries, AMD, "x").descriptor.digest == "linux/amd64/"
    assert m.choose(entries, ARM, "x").descriptor.digest == "linux/arm64/"
    v7 = Platform("arm", "linux", "v7")
    assert m.choose([entry("arm", "v6"), entry("arm", "v7")], v7, "x").descriptor.digest == "linux/arm/v7"
    with pytest.raises(
        NotFound, match="no matching manifest for linux/s390x in the manifest list entries of x"
    ):
        m.choose(entries, Platform("s390x", "linux"), "x")


def test_chain_ids() -> None:
    assert m.chain_ids([]) == ()
    first, second = m.chain_ids(["sha256:a", "sha256:b"])
    assert first == "sha256:a"
    assert second == m.digest_of(b"sha256:a sha256:b")


def test_synthesised_manifest_reads_back() -> None:
    config = Descriptor(m.DOCKER_CONFIG, "sha256:" + "1" * 64, 5)
    layer = Descriptor(m.DOCKER_LAYER, "sha256:" + "2" * 64, 6)
    parsed = m.parse_manifest(m.parse_json(m.synthesise(config, [layer]), "manifest"))
    assert parsed == m.Manifest(config, (layer,))


def test_configuration() -> None:
    data = {
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {
            "Env": ["A=b"], "Cmd": ["x"], "Entrypoint": None, "User": "1", "WorkingDir": "/w", "StopSignal": "SIGQUIT",
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "Labels": {"k": "v"},
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:a"]},
    }  # fmt: skip
    parsed = m.parse_configuration(json.dumps(data).encode())
    assert parsed.platform == AMD
    assert parsed.run.cmd == ("x",)
    assert parsed.run.entrypoint == ()
    assert parsed.run.exposed_ports == ("80/tcp",)
    assert parsed.run.healthcheck is not None
    assert parsed.run.healthcheck.interval == 5
    assert parsed.diff_ids == ("sha256:a",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["schemaVersion", "config", "layers", "manifests", "mediaType", "rootfs", "digest", "size", "platform"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON | st.just(2)))
def test_odd_documents_are_refused(data: dict[str, object]) -> None:
    for read in (m.parse_manifest, m.parse_index):
        try:
            read(data)
        except InvalidArgument:
            continue
    m.parse_configuration(
        json.dumps({"rootfs": {"diff_ids": []}, "config": {}, "os": data.get("size")}).encode()
    )


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        m.parse_json(data, "thing")


def test_media_types() -> None:
    assert m.media_type({"mediaType": m.DOCKER_LIST}) == m.DOCKER_LIST
    assert m.media_type({}, m.DOCKER_MANIFEST) == m.DOCKER_MANIFEST
    assert m.media_type({"manifests": []}, "text/plain") == m.OCI_INDEX
    assert m.node_platform("aarch64") == ARM
