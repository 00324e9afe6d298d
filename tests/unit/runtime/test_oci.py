"""agent/runtime/oci.py: what the program that makes containers says of itself."""

from pathlib import Path

import pytest

from agent.runtime.oci import OciRuntime, in_runcs_words, parse_version


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n", ("1.1.5+ds1", "1.1.5+ds1-1+deb12u1")),
        ("crun version 1.8.1\ncommit: f8a096b\nrundir: /run/crun\n+SYSTEMD +SELINUX\n", ("1.8.1", "f8a096b")),
        ("runc version 1.2\ncommit:\n", ("1.2", "")),
        ("", ("", "")),
        ("usage: something else\n", ("", "")),
    ],
)  # fmt: skip
def test_parse_version(text: str, said: tuple[str, str]) -> None:
    assert parse_version(text) == said


async def test_version_asks_the_program(tmp_path: Path) -> None:
    program = tmp_path / "runc"
    program.write_text("#!/bin/sh\necho $1 version 3\n")
    program.chmod(0o755)
    assert await OciRuntime(str(program), "shoal").version() == ("3", "")
    assert await OciRuntime(str(tmp_path / "absent"), "shoal").version() == ("", "")


def test_a_program_that_is_not_there_in_runcs_words() -> None:
    said = "OCI runtime create failed: executable file `nosuch` not found in $PATH: No such file or directory: unknown"
    assert in_runcs_words(said) == (
        'OCI runtime create failed: unable to start container process: exec: "nosuch": '
        "executable file not found in $PATH: unknown"
    )
    assert in_runcs_words("permission denied") == "permission denied"


@pytest.mark.parametrize("why", ["Permission denied", "Operation not permitted"])
def test_a_program_that_cannot_be_run_in_runcs_words(why: str) -> None:
    assert in_runcs_words(f"OCI runtime create failed: open executable: {why}: unknown", "/etc") == (
        'OCI runtime create failed: unable to start container process: exec: "/etc": permission denied: unknown'
    )
