"""An image as plain data: what it is, what it sets for containers, and what a pull and a registry say of one.

The runtime's parts make these; worker and engine read them. The runtime itself is in `agent.runtime.api`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """What `X-Registry-Auth` holds."""

    username: str = ""
    password: str = field(default="", repr=False)
    server_address: str = ""
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PullEvent:
    """One line of a pull's progress: `status` in Docker's words, `id` a layer's short id, a tag or empty."""

    status: str
    id: str = ""
    current: int = 0
    total: int = 0


PullProgress = Callable[[PullEvent], None]


@dataclass(frozen=True, slots=True)
class Platform:
    architecture: str
    os: str
    variant: str = ""
    os_version: str = ""


@dataclass(frozen=True, slots=True)
class Descriptor:
    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """What `GET /distribution/{name}/json` says."""

    descriptor: Descriptor
    platforms: tuple[Platform, ...]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The image's HEALTHCHECK; times in nanoseconds, 0 = Docker's default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The part of an image that shapes containers."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    healthcheck: HealthCheck | None = None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    id: str  # sha256:… of the configuration
    tags: tuple[str, ...]  # familiar: nginx:latest
    digests: tuple[str, ...]  # familiar: nginx@sha256:…
    target: Descriptor  # the manifest
    platform: Platform
    created: str  # RFC 3339, as the image says it
    size: int  # of the unpacked layers
    config: ImageConfig
    diff_ids: tuple[str, ...]
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)  # the whole configuration


@dataclass(frozen=True, slots=True)
class RemovedImage:
    """One line of the answer to DELETE /images/{name}."""

    untagged: str = ""
    deleted: str = ""


def environment_of(given: Iterable[str], of_image: Iterable[str]) -> list[str]:
    """What a container is said to have: its own settings, then the image's others; a name without a value removes the image's."""
    own = {item.partition("=")[0]: item for item in given}
    others = {item.partition("=")[0]: item for item in of_image}
    return [*(i for i in own.values() if "=" in i), *(i for name, i in others.items() if name not in own)]
