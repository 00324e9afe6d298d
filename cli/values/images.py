"""Names of images: what `nginx` stands for, and how a long name is shown. Pure."""

from __future__ import annotations

import re

DEFAULT_DOMAIN = "docker.io"
_LIBRARY = "library/"
_DIGEST = re.compile(r"@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$")
_TAG = re.compile(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9]|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")


class Image:
    """A parsed reference. `domain` and `path` are complete; `tag` and `digest` may be empty."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, text: str) -> None:
        rest = text
        match = _DIGEST.search(rest)
        self.digest = match[0][1:] if match else ""
        rest = rest[: match.start()] if match else rest
        match = _TAG.search(rest)
        self.tag = match[0][1:] if match else ""
        rest = rest[: match.start()] if match else rest
        first, slash, others = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
            self.domain, self.path = first, others
        else:
            self.domain, self.path = DEFAULT_DOMAIN, rest
        if self.domain in (DEFAULT_DOMAIN, "index.docker.io"):
            self.domain = DEFAULT_DOMAIN
            if "/" not in self.path:
                self.path = _LIBRARY + self.path
        if not _PATH.fullmatch(self.path) or not _DOMAIN.fullmatch(self.domain):
            if self.path != self.path.lower() and _PATH.fullmatch(self.path.lower()):
                raise ValueError("invalid reference format: repository name must be lowercase")
            raise ValueError("invalid reference format")

    @property
    def name(self) -> str:
        """The name without tag and digest, as short as it may be written."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        return self.path.removeprefix(_LIBRARY)

    @property
    def tagged(self) -> str:
        """With its tag, `latest` unless there's a tag or a digest."""
        tag = self.tag or ("" if self.digest else "latest")
        text = f"{self.name}:{tag}" if tag else self.name
        return f"{text}@{self.digest}" if self.digest else text


def with_default_tag(text: str) -> str:
    """`nginx` as `nginx:latest`; something that is no name stays as it is."""
    try:
        return Image(text).tagged
    except ValueError:
        return text


def familiar(text: str) -> str:
    """As lists show it: short, and without the digest if there's a tag."""
    try:
        image = Image(text)
    except ValueError:
        return text
    return f"{image.name}:{image.tag}" if image.tag else image.tagged


def pinned(text: str, digest: str) -> str:
    """The same image, bound to a digest."""
    image = Image(text)
    return f"{image.name}:{image.tag or 'latest'}@{digest}" if not image.digest else image.tagged
