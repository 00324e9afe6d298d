"""What commands do with several names, and how they ask before they do it. For those that remove, stop and prune."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cli.command import Session
from cli.errors import ApiError, CliError


def each(
    session: Session, names: Iterable[str], act: Callable[[str], object], none_is_well: bool = False
) -> int:
    """Does it to one after the other and prints its name; what failed is told at the end, and fails the command.

    `none_is_well`: one that isn't there is told, but no failure.
    """
    problems: list[str] = []
    for name in names:
        try:
            act(name)
        except CliError as error:
            if none_is_well and isinstance(error, ApiError) and error.is_not_found:
                session.warn(error.message)
                continue
            problems.append(error.message)
        else:
            session.say(name)
    if problems:
        raise CliError("\n".join(problems))
    return 0


def confirm(session: Session, question: str) -> bool:
    """Asks on the terminal; anything but "y" is a no."""
    session.out.write(f"{question} [y/N] ")
    session.out.flush()
    return session.stdin.readline().strip().lower() == "y"
