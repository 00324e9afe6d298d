"""Image references: parse, normalise and print them as Docker does. Pure; called by everything that names an image.

`nginx` means `docker.io/library/nginx:latest`; the shorter form is called familiar. A reference may carry a tag, a
digest or both; with both the digest decides what is fetched and the tag is for reading only.
"""

import re
from dataclasses import dataclass, replace

from common.errors import InvalidArgument

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"

_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{3,64}")

INVALID = "invalid reference format"


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference; `tag` and `digest` are empty where absent."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """The full form, by which images are kept: docker.io/library/nginx:latest."""
        return self._with_suffix(self.repository)

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: nginx."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        short = self.path.removeprefix(_OFFICIAL)
        return short if "/" not in short else self.path

    @property
    def familiar(self) -> str:
        return self._with_suffix(self.familiar_name)

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def tagged(self) -> "Reference":
        """With `latest` where nothing is said."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def with_digest(self, digest: str) -> "Reference":
        """Name and digest alone, the form of a RepoDigest."""
        return replace(self, tag="", digest=digest)

    def _with_suffix(self, name: str) -> str:
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Normalise what a user wrote; InvalidArgument with Docker's text if it can't be a reference."""
    if _HEX64.fullmatch(text):
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    name = remainder.split("@", 1)[0]
    head, colon, _ = name.rpartition(":")
    path = head if colon else name
    if path != path.lower():
        raise InvalidArgument(f"{INVALID}: repository name must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidArgument(INVALID)
    digest = match["digest"] or ""
    if digest and not _SHA256.fullmatch(digest):
        raise InvalidArgument(f"{INVALID}: unsupported digest algorithm or length")
    if len(match["domain"]) + 1 + len(match["path"]) > 255:
        raise InvalidArgument("repository name must not be more than 255 characters")
    return Reference(match["domain"], match["path"], match["tag"] or "", digest)


def looks_like_id(text: str) -> bool:
    """Could this be an image id, or the beginning of one?"""
    return _HEX.fullmatch(text.removeprefix("sha256:")) is not None


def _split_domain(text: str) -> tuple[str, str]:
    """The first part is a host only if it looks like one: a dot, a port, `localhost` or capital letters."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder
