"""Which function answers a method and a path. Pure. Filled by the noun modules, asked by app.py for every request.

A template is a path with `{name}` for one segment and `{name:path}` for what may hold slashes (image names).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_UNCLEAN: Final = re.compile(r"//|/\.\.?(/|$)")
_VERSIONED: Final = re.compile(r"/v([0-9.]+)(/.*)")


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """One entry of the API."""

    method: str
    template: str
    handler: T


class Router(Generic[T]):
    """All routes, by method and first segment of the path."""

    def __init__(self, routes: Iterable[Route[T]]) -> None:
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], T]]] = {}
        for route in routes:
            key = (route.method, _head(route.template))
            self._routes.setdefault(key, []).append((_pattern(route.template), route.handler))

    def find(self, method: str, path: str) -> tuple[T, dict[str, str]] | None:
        """The handler and what the template's names stand for. HEAD is answered as GET is."""
        for wanted in (method, "GET") if method == "HEAD" else (method,):
            for pattern, handler in self._routes.get((wanted, _head(path)), ()):
                if match := pattern.fullmatch(path):
                    return handler, match.groupdict()
        return None


def split_version(path: str) -> tuple[str, str]:
    """The API version in front of a path ("" for none) and the path without it."""
    match = _VERSIONED.fullmatch(path)
    return (match[1], match[2]) if match else ("", path)


def cleaned(path: str) -> str:
    """A path without empty segments and dots, as Docker's router has it."""
    if not _UNCLEAN.search(path):
        return path
    clean = "/" + posixpath.normpath(path).lstrip("/")
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _head(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(:path)?\}", template)
    text = re.escape(parts[0])
    for name, wide, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        text += f"(?P<{name}>{'.+' if wide else '[^/]+'})" + re.escape(rest)
    return re.compile(text, re.DOTALL)
