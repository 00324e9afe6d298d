"""agent.toml: defaults, values, and errors that name the mistake."""

from pathlib import Path

import pytest

from agent import settings
from common import errors


def test_no_file_means_defaults(tmp_path: Path) -> None:
    assert settings.load(str(tmp_path / "none.toml")) == settings.Settings()


def test_values() -> None:
    text = '[registry]\nmirrors = ["http://10.0.0.1:5000"]\ninsecure = ["10.0.0.1:5000"]\n[containerd]\nstarts = 2\n'
    got = settings.parse(text)
    assert got.registry.mirrors == ("http://10.0.0.1:5000",)
    assert got.containerd.starts == 2
    assert got.containerd.namespace == "shoal"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[registri]\n", r"there is no section \[registri\]"),
        ("[registry]\nmirror = []\n", r"\[registry\] has no setting 'mirror'; it has mirrors, insecure"),
        ("[registry]\nmirrors = 'x'\n", r"\[registry\] mirrors must be a list of strings"),
        ("[containerd]\nstarts = -1\n", "must be a number"),
        ("[containerd]\nstarts = true\n", "must be a number"),
        ("[state]\ndir = 7\n", "must be a string"),
        ("registry = 1\n", r"\[registry\] must be a table"),
        ("[log]\nlevel = 'loud'\n", "level must be one of"),
        ("x = = 1", "not TOML"),
    ],
)
def test_mistakes(text: str, complaint: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=complaint):
        settings.parse(text)


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[nope]\n")
    with pytest.raises(errors.InvalidArgument, match=str(path)):
        settings.load(str(path))
