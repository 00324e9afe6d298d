"""Who a container's process runs as: `user[:group]` looked up in the image's own passwd and group files.

The lookup is pure; `read_image_file` finds a file in the layers of a snapshot without mounting it and without ever
following a link, so that no image can point at the node's files. Called when a container or an exec is created.
"""

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import InvalidArgument

_MAX_FILE = 4 << 20
_MAX_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class User:
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def lookup(text: str, extra_groups: Sequence[str], passwd: str, group: str) -> User:
    """The ids for `text` (name or number, each side of the colon); unknown names are errors in Docker's words."""
    accounts, groups = list(_accounts(passwd)), list(_groups(group))
    wanted, _, wanted_group = text.partition(":")
    account = _account(wanted, accounts)
    gid = _group_id(wanted_group, groups) if wanted_group else account.gid
    supplementary: tuple[int, ...] = ()
    if account.name and not wanted_group:
        supplementary = tuple(g.gid for g in groups if account.name in g.members and g.gid != gid)
    extra = tuple(_group_id(name, groups) for name in extra_groups)
    return User(account.uid, gid, tuple(dict.fromkeys((*supplementary, *extra))), account.home or "/")


def _account(wanted: str, accounts: Iterable[_Account]) -> _Account:
    wanted = wanted or "0"
    for account in accounts:
        if account.name == wanted or (wanted.isdecimal() and account.uid == int(wanted)):
            return account
    if not wanted.isdecimal():
        raise InvalidArgument(f"unable to find user {wanted}: no matching entries in passwd file")
    return _Account("", _checked(int(wanted)), 0, "/")


def _group_id(wanted: str, groups: Iterable[_Group]) -> int:
    for group in groups:
        if group.name == wanted:
            return group.gid
    if not wanted.isdecimal():
        raise InvalidArgument(f"unable to find group {wanted}: no matching entries in group file")
    return _checked(int(wanted))


def _checked(number: int) -> int:
    if number > _MAX_ID:
        raise InvalidArgument("uids and gids must be in range 0-2147483647")
    return number


def _accounts(text: str) -> Iterable[_Account]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= 4 and parts[2].isdecimal() and parts[3].isdecimal():
            yield _Account(parts[0], int(parts[2]), int(parts[3]), parts[5] if len(parts) > 5 else "/")


def _groups(text: str) -> Iterable[_Group]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= 3 and parts[2].isdecimal():
            members = tuple(parts[3].split(",")) if len(parts) > 3 else ()
            yield _Group(parts[0], int(parts[2]), members)


def layer_folders(mount_type: str, source: str, options: Iterable[str]) -> list[str]:
    """The folders that a snapshot's mount stacks, the topmost first."""
    if mount_type != "overlay":
        return [source]
    said = dict(option.partition("=")[::2] for option in options)
    upper = [said["upperdir"]] if "upperdir" in said else []
    return upper + [folder for folder in said.get("lowerdir", "").split(":") if folder]


def read_image_file(folders: Iterable[str], path: str) -> str:
    """A small text file of an image; "" if it has none."""
    for folder in folders:
        try:
            return _read_beneath(folder, path)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV):
                return ""  # a link, or a layer that deletes it
            raise
    return ""


def _read_beneath(folder: str, path: str) -> str:
    *parents, name = path.strip("/").split("/")
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        for parent in parents:
            below = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = below
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    finally:
        os.close(handle)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return ""
        return opened.read(_MAX_FILE).decode("utf-8", "replace")
