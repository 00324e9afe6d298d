"""An end in the midst of changes to the disk, before any of them that one likes. For test_rescue.py and test_restoration.py."""

from collections.abc import Callable
from typing import Any


class Cut(BaseException):
    """The process is no more."""


def cut_after(steps: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Wraps functions: so many calls of them, all told, are carried out, and the next one raises Cut."""
    left = steps

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cut
            return real(*args, **more)

        return call

    return counted
