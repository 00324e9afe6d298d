"""What image manifests, indexes and configurations say, OCI's and Docker's alike. Pure.

Called by the puller, the archive loader and the image list. Bytes come in, frozen dataclasses go out; anything that
doesn't hold together is an `InvalidArgument`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.runtime.image import Descriptor, HealthCheck, ImageConfig, Platform
from common.errors import InvalidArgument, NotFound

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)
ACCEPT = ", ".join((*INDEXES, *MANIFESTS))

MAX_MANIFEST = 4 << 20

# uname's machine -> Go's words for architecture and variant
_MACHINES: Mapping[str, tuple[str, str]] = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "riscv64": ("riscv64", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
}


@dataclass(frozen=True, slots=True)
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    descriptor: Descriptor
    platform: Platform | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Configuration:
    """An image's configuration: what it is built for, how it runs, what its layers unpack to."""

    platform: Platform
    created: str
    run: ImageConfig
    diff_ids: tuple[str, ...]
    raw: Mapping[str, Any]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def node_platform(machine: str) -> Platform:
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform(architecture=architecture, os="linux", variant=variant)


def parse_json(data: bytes, what: str) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"invalid {what}: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgument(f"invalid {what}: not a JSON object")
    return value


def media_type(data: Mapping[str, Any], announced: str = "") -> str:
    """What a manifest is: as it says itself, else as the server said, else by its shape."""
    said = data.get("mediaType")
    if isinstance(said, str) and said:
        return said
    if announced in MANIFESTS or announced in INDEXES:
        return announced
    return OCI_INDEX if "manifests" in data else OCI_MANIFEST


def parse_manifest(data: Mapping[str, Any]) -> Manifest:
    if data.get("schemaVersion") != 2 or "config" not in data:
        raise InvalidArgument("unsupported image manifest: only schema version 2 and OCI are known")
    layers = _list(data.get("layers"), "layers")
    return Manifest(_descriptor(data["config"]), tuple(_descriptor(layer) for layer in layers))


def parse_index(data: Mapping[str, Any]) -> tuple[IndexEntry, ...]:
    return tuple(_index_entry(entry) for entry in _list(data.get("manifests"), "manifests"))


def choose(entries: Iterable[IndexEntry], wanted: Platform, reference: str) -> IndexEntry:
    """The entry for this node: same system and architecture, the same variant before none before another."""
    best: tuple[int, IndexEntry] | None = None
    for entry in entries:
        rank = _rank(entry.platform, wanted)
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, entry)
    if best is None:
        shown = "/".join(part for part in (wanted.os, wanted.architecture, wanted.variant) if part)
        raise NotFound(f"no matching manifest for {shown} in the manifest list entries of {reference}")
    return best[1]


def parse_configuration(data: bytes) -> Configuration:
    raw = parse_json(data, "image configuration")
    rootfs = raw.get("rootfs")
    diff_ids = _list(rootfs.get("diff_ids"), "diff_ids") if isinstance(rootfs, dict) else ()
    return Configuration(
        platform=Platform(_text(raw, "architecture"), _text(raw, "os"), _text(raw, "variant")),
        created=_text(raw, "created"),
        run=_image_config(raw.get("config") or {}),
        diff_ids=tuple(str(item) for item in diff_ids),
        raw=raw,
    )


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The name of the stack of layers after each of them; the snapshots are called by these."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


def synthesise(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """A manifest for an image that comes without one (`docker save`)."""

    def plain(item: Descriptor) -> dict[str, object]:
        return {"mediaType": item.media_type, "size": item.size, "digest": item.digest}

    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": plain(config),
        "layers": [plain(layer) for layer in layers],
    }
    return json.dumps(manifest, indent=3).encode()


def _rank(found: Platform | None, wanted: Platform) -> int | None:
    if found is None:
        return 3  # an index of one image without a platform, as some builders write it
    if (found.os or "linux") != wanted.os or found.architecture != wanted.architecture:
        return None
    if found.variant == wanted.variant or {found.variant, wanted.variant} == {"", "v8"}:
        return 0
    return 1 if not found.variant else 2


def _index_entry(entry: Any) -> IndexEntry:
    descriptor = _descriptor(entry)
    said = entry.get("platform")
    platform = None
    if isinstance(said, dict):
        platform = Platform(
            _text(said, "architecture"), _text(said, "os"), _text(said, "variant"), _text(said, "os.version")
        )
    return IndexEntry(descriptor, platform, _texts(entry.get("annotations")))


def _descriptor(data: Any) -> Descriptor:
    if not isinstance(data, dict):
        raise InvalidArgument("invalid image manifest: a descriptor is not an object")
    digest, size = data.get("digest"), data.get("size")
    if not isinstance(digest, str) or not digest.startswith("sha256:") or len(digest) != 71:
        raise InvalidArgument("invalid image manifest: unsupported digest")
    if not isinstance(size, int) or size < 0:
        raise InvalidArgument("invalid image manifest: a descriptor without a size")
    return Descriptor(_text(data, "mediaType"), digest, size)


def _image_config(data: Mapping[str, Any]) -> ImageConfig:
    return ImageConfig(
        entrypoint=_strings(data.get("Entrypoint")),
        cmd=_strings(data.get("Cmd")),
        env=_strings(data.get("Env")),
        workdir=_text(data, "WorkingDir"),
        user=_text(data, "User"),
        stop_signal=_text(data, "StopSignal"),
        exposed_ports=tuple(data.get("ExposedPorts") or ()),
        volumes=tuple(data.get("Volumes") or ()),
        labels=_texts(data.get("Labels")),
        healthcheck=_healthcheck(data.get("Healthcheck")),
    )


def _healthcheck(data: Any) -> HealthCheck | None:
    if not isinstance(data, dict):
        return None

    def number(key: str) -> int:
        value = data.get(key)
        return value if isinstance(value, int) else 0

    return HealthCheck(
        test=_strings(data.get("Test")),
        interval=number("Interval"),
        timeout=number("Timeout"),
        retries=number("Retries"),
        start_period=number("StartPeriod"),
        start_interval=number("StartInterval"),
    )


def _list(value: Any, what: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidArgument(f"invalid image manifest: {what} is not a list")
    return value


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _texts(value: Any) -> Mapping[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""
