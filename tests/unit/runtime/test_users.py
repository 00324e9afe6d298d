"""Users and groups, from the image's own files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.runtime import users
from agent.runtime.users import User
from common.errors import InvalidArgument

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/sh\nbroken\nodd:x:a:b\n"
GROUP = "root:x:0:\nweb:x:102:\nmore:x:103:other,web\nwheel:x:10:root\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", User(0, 0, (10,), "/root")),
        ("root", User(0, 0, (10,), "/root")),
        ("web", User(101, 102, (103,), "/srv")),
        ("101", User(101, 102, (103,), "/srv")),
        ("web:more", User(101, 103, (), "/srv")),
        ("55", User(55, 0, (), "/")),
        ("55:66", User(55, 66, (), "/")),
        ("web:0", User(101, 0, (), "/srv")),
    ],
)
def test_lookup(text: str, wanted: User) -> None:
    assert users.lookup(text, (), PASSWD, GROUP) == wanted


def test_extra_groups() -> None:
    assert users.lookup("web", ("wheel", "77", "more"), PASSWD, GROUP).groups == (103, 10, 77)


def test_unknown_ones() -> None:
    with pytest.raises(InvalidArgument, match="unable to find user x: no matching entries in passwd file"):
        users.lookup("x", (), PASSWD, GROUP)
    with pytest.raises(InvalidArgument, match="unable to find group y: no matching entries in group file"):
        users.lookup("0:y", (), PASSWD, GROUP)
    with pytest.raises(InvalidArgument, match="must be in range"):
        users.lookup(str(2**31), (), "", "")


def test_layers() -> None:
    options = ["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/b:/a"]
    assert users.layer_folders("overlay", "overlay", options) == ["/u", "/b", "/a"]
    assert users.layer_folders("bind", "/x", ["rbind"]) == ["/x"]


def test_no_link_is_followed(tmp_path: Path) -> None:
    top, bottom = tmp_path / "top", tmp_path / "bottom"
    (top / "etc").mkdir(parents=True)
    (bottom / "etc").mkdir(parents=True)
    (bottom / "etc" / "passwd").write_text("from below")
    assert users.read_image_file([str(top), str(bottom)], "etc/passwd") == "from below"
    (top / "etc" / "passwd").symlink_to("/etc/hostname")
    assert users.read_image_file([str(top), str(bottom)], "etc/passwd") == ""
    (top / "etc" / "passwd").unlink()
    os.mkfifo(top / "etc" / "passwd")
    assert users.read_image_file([str(top), str(bottom)], "etc/passwd") == ""
    other = tmp_path / "other"
    other.mkdir()
    (other / "etc").symlink_to("/etc")
    assert users.read_image_file([str(other)], "etc/hostname") == ""
    assert users.read_image_file([str(tmp_path)], "no/such") == ""
