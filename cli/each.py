"""What commands do with several names, and how they ask before they do it. For those that remove, stop and prune."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cli.command import Session
from cli.errors import CliError


def each(session: Session, names: Iterable[str], act: Callable[[str], object]) -> int:
    """Does it to one after the other and prints its name; what failed is told at the end, and fails the command."""
    problems: list[str] = []
    for name in names:
        try:
            act(name)
        except CliError as error:
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
