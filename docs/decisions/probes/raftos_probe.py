"""Shows why the package raftos cannot carry the managers' state. Run: python3 docs/decisions/probes/raftos_probe.py

Makes a virtual environment in a temporary folder, installs raftos 0.2.6 there (without its pinned dependencies,
which do not build any more), and asks five questions of the library itself. Needs a package index; takes some 20 s.
Prints one line for each question and exits 0 when every finding still holds.
"""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import sys
import tempfile
import venv
from types import SimpleNamespace
from typing import Any

INSIDE = "--inside"


def starts_at_all() -> str:
    """A node is made as the documentation says."""
    from raftos.server import Node

    async def make() -> None:
        Node(("127.0.0.1", 18999), asyncio.get_running_loop())

    try:
        asyncio.run(make())
    except TypeError as exc:
        return f"a node cannot be made: {exc}"
    return ""


def _follower(folder: pathlib.Path) -> Any:
    """A Follower on real storage whose messages go into a list."""
    import raftos.state as state
    from raftos.conf import config
    from raftos.serializers import JSONSerializer

    config.configure({"log_path": str(folder), "serializer": JSONSerializer})
    sent: list[dict[str, Any]] = []

    async def send(data: dict[str, Any], destination: object) -> None:
        sent.append(data)

    loop = asyncio.get_running_loop()
    node_id = "127.0.0.1:18001"
    parts = SimpleNamespace(
        id=node_id, loop=loop, storage=state.FileStorage(node_id), log=state.Log(node_id),
        state_machine=state.StateMachine(node_id), send=send, sent=sent, set_leader=lambda leader: None,
        to_follower=lambda: None,
    )  # fmt: skip
    follower = state.Follower(parts)
    follower.init_storage()
    return follower


def votes_twice() -> str:
    """One follower, one term, two candidates, a restart in between: two votes are two leaders."""

    async def ask() -> list[bool]:
        with tempfile.TemporaryDirectory() as folder:
            granted = []
            for candidate in ("127.0.0.1:18002", "127.0.0.1:18003"):
                follower = _follower(pathlib.Path(folder))  # the second time: the same disk after a restart
                follower.on_receive_request_vote(
                    {
                        "type": "request_vote",
                        "term": 7,
                        "candidate_id": candidate,
                        "last_log_index": 0,
                        "last_log_term": 0,
                        "sender": (candidate.split(":")[0], 1),
                    }
                )
                await asyncio.sleep(0)
                granted.append(any(m.get("vote_granted") for m in follower.state.sent))
            return granted

    granted = asyncio.run(ask())
    return f"both candidates of term 7 got the same follower's vote: {granted}" if all(granted) else ""


def miscounts_quorum() -> str:
    """is_majority() counts over the others only: with four members two are 'a majority'."""
    from raftos.state import State

    four_members = SimpleNamespace(server=SimpleNamespace(cluster_count=3))
    if State.is_majority(four_members, 2):  # type: ignore[arg-type]
        return "2 of 4 members are taken for a majority: both halves of a split elect and commit"
    return ""


def loses_its_log() -> str:
    """The default log is written and read back, as at a restart."""
    from raftos.conf import config
    from raftos.serializers import MessagePackSerializer
    from raftos.storage import Log

    with tempfile.TemporaryDirectory() as folder:
        config.configure({"log_path": folder, "serializer": MessagePackSerializer})
        try:
            log = Log("127.0.0.1:18004")
            log.write(1, {"key": "value"})
            Log("127.0.0.1:18004")
        except Exception as exc:  # noqa: BLE001  (whatever it is, it is the finding)
            return f"the log that it wrote cannot be read again: {type(exc).__name__}: {exc}"
    return ""


def never_syncs() -> str:
    """An acknowledged entry must be on the disk before it is acknowledged."""
    import raftos

    text = "".join(p.read_text() for p in pathlib.Path(raftos.__file__).parent.glob("*.py"))
    return (
        "no fsync, fdatasync or rename in the whole package"
        if "sync(" not in text and "rename(" not in text
        else ""
    )


PROBES = (starts_at_all, votes_twice, miscounts_quorum, loses_its_log, never_syncs)


def inside() -> int:
    """Runs in the scratch environment."""
    missing = 0
    for probe in PROBES:
        finding = probe()
        missing += not finding
        print(f"{probe.__name__:18} {finding or 'NOT REPRODUCED'}")
    return 1 if missing else 0


def main() -> int:
    """Makes the scratch environment and runs the probes in it."""
    if INSIDE in sys.argv:
        return inside()
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "msgpack", "cryptography"], check=True)
        subprocess.run([*install, "--no-deps", "raftos==0.2.6"], check=True)
        return subprocess.run([python, __file__, INSIDE], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
