"""`shoal swarm backup` and `restore`: the whole swarm as one file. Docker has no such commands."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from cli.command import ONE, PROGRAM, Command, Session
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.output.units import decimal_size
from cli.swarm import join_command, unlock_advice
from cli.swarm_spec import JOIN_FLAGS
from cli.values.basic import BOOL, STRING

_DIGEST = hashlib.sha256().digest_size
_MAGIC = b"SHOAL-BACKUP-"
_HEADER = 64 << 10
_BLOCK = 1 << 20
_SECRET = (
    "WARNING: The file is not sealed: it holds the key of the swarm's root CA, its join tokens and all\n"
    "secrets. Keep it as you would keep these, or seal it with --passphrase-file."
)


def _backup(session: Session, flags: Values, names: list[str]) -> int:
    path = names[0]
    if os.path.lexists(path) and not flags.on("force"):
        raise CliError(f"{path} exists already: use --force to overwrite it")
    headers = _headers(_passphrase(flags))
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with _created(temporary) as file:
            about, size = _fetch(session, headers, file)
        os.rename(temporary, path)
        _sync_folder(path)
    except OSError as error:
        raise CliError(f"{path} can't be written: {_reason(error)}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    session.say(f"Swarm {about.get('cluster', '')} backed up to {path} ({decimal_size(size)}).")
    sealed = about.get("sealed")
    if sealed == "nothing":
        session.warn(_SECRET)
    elif sealed == "unlock-key":
        session.say(
            "It is sealed by the swarm's present unlock key: keep that key as long as the file, also when it is\n"
            f"rotated. `{PROGRAM} swarm unlock-key` shows it."
        )
    return 0


@contextlib.contextmanager
def _created(path: str) -> Iterator[BinaryIO]:
    """A new file for its owner only; on the disk when the block ends."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        yield file
        file.flush()
        os.fsync(fd)


def _fetch(session: Session, headers: dict[str, str], file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Writes what the daemon sends and compares it with the checksum that it ends with."""
    response = session.client.stream("GET", "/swarm/backup", headers=headers)
    digest, size, start, held = hashlib.sha256(), 0, b"", b""
    while piece := session.client.piece(response):
        file.write(piece)
        size += len(piece)
        start += piece[: max(0, _HEADER - len(start))]
        held += piece
        digest.update(held[:-_DIGEST])
        held = held[-_DIGEST:]
    if held != digest.digest():
        raise CliError("the backup did not arrive whole: try again")
    return _about(start), size


def _about(start: bytes) -> dict[str, Any]:
    """What a backup says of itself in its second line; nothing for a file that is none."""
    lines = start.split(b"\n", 2)
    if not start.startswith(_MAGIC) or len(lines) < 3:
        return {}
    try:
        found = json.loads(lines[1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _restore(session: Session, flags: Values, names: list[str]) -> int:
    try:
        file = open(names[0], "rb")  # noqa: SIM115 - closed by the block below
    except OSError as error:
        raise CliError(f"open {names[0]}: {_reason(error)}") from None
    with file:
        try:
            about = _about(file.read(_HEADER))
            file.seek(0)
        except OSError as error:
            raise CliError(f"{names[0]} can't be read: {_reason(error)}") from None
        passphrase = _passphrase(flags) or _asked(session, about.get("sealed", ""))
        response = session.client.stream(
            "POST",
            "/swarm/restore",
            {
                "listenAddr": flags.text("listen-addr"),
                "advertiseAddr": flags.text("advertise-addr"),
                "dataPathAddr": flags.text("data-path-addr"),
                "force": "1" if flags.on("force") else "0",
            },
            file,
            {"Content-Type": "application/octet-stream", **_headers(passphrase)},
        )
        content = b""
        with response:
            while piece := session.client.piece(response):
                content += piece
    _report(session, json.loads(content))
    return 0


def _asked(session: Session, sealed: str) -> str:
    """What the file was sealed by, from the terminal or the next line of stdin."""
    if sealed not in ("passphrase", "unlock-key"):
        return ""
    if not session.stdin.isatty():
        return session.stdin.readline().strip()
    import getpass

    prompt = "Enter passphrase: " if sealed == "passphrase" else "Enter the unlock key of then: "
    return getpass.getpass(prompt).strip()


def _report(session: Session, done: dict[str, Any]) -> None:
    """What is so now, and what is left to be done by hand."""
    node_id, addr = done["NodeID"], done["AdvertiseAddr"]
    when = done["Created"].partition(".")[0].replace("T", " ").rstrip("Z")
    session.say(f"Swarm restored: current node ({node_id}) is now a manager.\n")
    session.say(f"It is the only one, and the state is that of {when} UTC: what was changed later is lost.")
    if not done["KnownNode"]:
        session.say(
            "This machine was no node of the swarm: it is a new one. Nodes that are gone for good can be removed\n"
            f"with '{PROGRAM} node rm'."
        )
    if done["FormerManagers"]:
        names = ", ".join(done["FormerManagers"])
        session.say(
            f"Former managers are workers: {names}. One that still runs with the old state\n"
            f"has to leave it by '{PROGRAM} swarm leave --force' and to join again."
        )
    if done["OtherNodes"] and done["KnownAddr"]:
        session.say(
            f"Other nodes come back by themselves: they know a manager at {addr}. Nodes that joined after\n"
            "the backup have to leave and to join again."
        )
    elif done["OtherNodes"]:
        session.say(f"No other node knows a manager at {addr}: each has to leave and to join again.")
    session.say()
    join_command(session, node_id, worker=True)
    if key := session.client.get("/swarm/unlockkey")["UnlockKey"]:
        unlock_advice(session, key)


def _passphrase(flags: Values) -> str:
    path = flags.text("passphrase-file")
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            said = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "it is not text"
        raise CliError(f"{path} can't be read: {reason}") from None
    if not said:
        raise CliError(f"{path} is empty: it must hold a passphrase")
    return said


def _headers(passphrase: str) -> dict[str, str]:
    encoded = base64.b64encode(passphrase.encode()).decode()
    return {"X-Backup-Passphrase": encoded} if passphrase else {}


def _reason(error: OSError) -> str:
    return (error.strerror or "failed").lower()


def _sync_folder(path: str) -> None:
    fd = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


BACKUP = Command(
    "[OPTIONS] FILE",
    "Back up the swarm to a file",
    _backup,
    (
        Flag("force", BOOL, "Overwrite the file if it exists", short="f"),
        Flag("passphrase-file", STRING, "Seal the backup with the passphrase in this file"),
    ),
    ONE,
)
RESTORE = Command(
    "[OPTIONS] FILE",
    "Restore the swarm from a backup",
    _restore,
    (
        *(flag for flag in JOIN_FLAGS if flag.name != "availability"),
        Flag("force", BOOL, "Replace the swarm that this node is part of", short="f"),
        Flag(
            "passphrase-file", STRING, "File with the passphrase or unlock key that the backup is sealed with"
        ),
    ),
    ONE,
)
