"""`shoal swarm backup` and `restore`: whole files or none, and what the user is told."""

import base64
import hashlib
import json
import os
import stat

import pytest

HEADER = "X-Backup-Passphrase"


def backup(sealed="nothing", content=b"\0content\n" * 1000):
    about = {"cluster": "cl1", "node": "n1", "created": 5, "index": 7, "sealed": sealed}
    whole = b"SHOAL-BACKUP-1\n" + json.dumps(about).encode() + b"\n" + content
    return whole + hashlib.sha256(whole).digest()


def answers(daemon, data):
    daemon.says("GET", "/swarm/backup", {"base64": base64.b64encode(data).decode()})


def test_a_backup_is_written_for_its_owner_only(daemon, shoal, tmp_path):
    data, path = backup(), tmp_path / "b"
    answers(daemon, data)
    done = shoal("swarm", "backup", str(path))
    assert done.out == f"Swarm cl1 backed up to {path} (9.13kB).\n"
    assert done.err.startswith("WARNING: The file is not sealed:")
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["b", "d.sock"]


def test_a_passphrase_goes_in_a_header(daemon, shoal, tmp_path):
    (tmp_path / "pass").write_text("schöner Satz\n")
    answers(daemon, backup("passphrase"))
    done = shoal("swarm", "backup", "--passphrase-file", str(tmp_path / "pass"), str(tmp_path / "b"))
    assert (done.code, done.err) == (0, "")
    assert base64.b64decode(daemon.asked[-1].headers[HEADER]).decode() == "schöner Satz"
    assert daemon.asked[-1].query == {}


def test_the_unlock_key_is_mentioned(daemon, shoal, tmp_path):
    answers(daemon, backup("unlock-key"))
    done = shoal("swarm", "backup", str(tmp_path / "b"))
    assert "sealed by the swarm's present unlock key" in done.out
    assert HEADER not in daemon.asked[-1].headers


def test_an_existing_file_stays(daemon, shoal, tmp_path):
    path = tmp_path / "b"
    path.write_text("precious")
    answers(daemon, backup())
    done = shoal("swarm", "backup", str(path))
    assert (done.code, done.err) == (1, f"{path} exists already: use --force to overwrite it\n")
    assert not daemon.asked
    assert shoal("swarm", "backup", "-f", str(path)).code == 0
    assert path.read_bytes() == backup()


@pytest.mark.parametrize("data", [backup()[:-1], backup()[:100], b"", backup()[:50] + b"x" + backup()[51:]])
def test_half_a_backup_is_none(daemon, shoal, tmp_path, data):
    (tmp_path / "b").write_text("before")
    answers(daemon, data)
    done = shoal("swarm", "backup", "--force", str(tmp_path / "b"))
    assert (done.code, done.err) == (1, "the backup did not arrive whole: try again\n")
    assert (tmp_path / "b").read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["b", "d.sock"]


def test_a_refusal_leaves_no_file(daemon, shoal, tmp_path):
    daemon.says("GET", "/swarm/backup", {"message": "This node is not a swarm manager."}, 503)
    done = shoal("swarm", "backup", str(tmp_path / "b"))
    assert done.err == "Error response from daemon: This node is not a swarm manager.\n"
    assert os.listdir(tmp_path) == ["d.sock"]


def test_what_cannot_be_written_or_read_is_named(daemon, shoal, tmp_path):
    answers(daemon, backup())
    there = tmp_path / "no" / "b"
    assert (
        shoal("swarm", "backup", str(there)).err == f"{there} can't be written: no such file or directory\n"
    )
    assert shoal("swarm", "restore", str(there)).err == f"open {there}: no such file or directory\n"
    done = shoal("swarm", "backup", "--passphrase-file", str(there), str(tmp_path / "b"))
    assert done.err == f"{there} can't be read: no such file or directory\n"
    (tmp_path / "empty").write_text(" \n")
    done = shoal("swarm", "restore", "--passphrase-file", str(tmp_path / "empty"), str(tmp_path / "empty"))
    assert done.err == f"{tmp_path / 'empty'} is empty: it must hold a passphrase\n"


def restored(daemon, key="", query=None, **more):
    done = {
        "NodeID": "n1", "ClusterID": "cl1", "Created": "2026-11-21T07:30:00.5Z", "KnownNode": True,
        "KnownAddr": True, "AdvertiseAddr": "10.0.0.1:2377", "FormerManagers": [], "OtherNodes": 0,
    }  # fmt: skip
    query = {"listenAddr": "0.0.0.0:2377", "force": "0"} | (query or {})
    daemon.says("POST", "/swarm/restore", done | more, **query)
    daemon.says("GET", "/nodes/n1", {"ManagerStatus": {"Addr": "10.0.0.1:2377"}})
    daemon.says("GET", "/swarm", {"JoinTokens": {"Worker": "SWMTKN-w", "Manager": "SWMTKN-m"}})
    daemon.says("GET", "/swarm/unlockkey", {"UnlockKey": key})


def test_a_swarm_is_restored(daemon, shoal, tmp_path):
    path = tmp_path / "b"
    path.write_bytes(backup())
    restored(daemon)
    done = shoal("swarm", "restore", str(path))
    assert done.err == ""
    assert done.out == (
        "Swarm restored: current node (n1) is now a manager.\n\n"
        "It is the only one, and the state is that of 2026-11-21 07:30:00 UTC: what was changed later is lost.\n\n"
        "To add a worker to this swarm, run the following command:\n\n"
        "    shoal swarm join --token SWMTKN-w 10.0.0.1:2377\n\n"
    )
    sent = next(a for a in daemon.asked if a.method == "POST")
    assert sent.body == backup()
    assert sent.headers["Content-Type"] == "application/octet-stream"
    assert HEADER not in sent.headers


def test_what_is_left_to_do_is_said(daemon, shoal, tmp_path):
    path = tmp_path / "b"
    path.write_bytes(backup())
    restored(
        daemon, "SWMKEY-1-x", {"advertiseAddr": "10.0.0.9", "listenAddr": "10.0.0.9:2377", "force": "1"},
        KnownNode=False, KnownAddr=False, FormerManagers=["m2", "m3"], OtherNodes=3,
    )  # fmt: skip
    done = shoal(
        "swarm", "restore", "--force", "--advertise-addr", "10.0.0.9", "--listen-addr", "10.0.0.9", str(path)
    )
    assert "This machine was no node of the swarm: it is a new one." in done.out
    assert "Former managers are workers: m2, m3." in done.out
    assert "No other node knows a manager at 10.0.0.1:2377: each has to leave and to join again." in done.out
    assert "SWMKEY-1-x" in done.out
    restored(daemon, OtherNodes=2)
    assert "Other nodes come back by themselves" in shoal("swarm", "restore", str(path)).out


@pytest.mark.parametrize("sealed", ["passphrase", "unlock-key"])
def test_a_sealed_backup_asks_for_its_key(daemon, shoal, tmp_path, sealed):
    path = tmp_path / "b"
    path.write_bytes(backup(sealed))
    restored(daemon)
    assert shoal("swarm", "restore", str(path), stdin="the key\n").code == 0
    sent = next(a for a in daemon.asked if a.method == "POST")
    assert base64.b64decode(sent.headers[HEADER]) == b"the key"


def test_a_refused_restore(daemon, shoal, tmp_path):
    (tmp_path / "b").write_bytes(b"no backup")
    daemon.says(
        "POST", "/swarm/restore", {"message": "the file is not a backup of a swarm"}, 400,
        listenAddr="0.0.0.0:2377", force="0",
    )  # fmt: skip
    done = shoal("swarm", "restore", str(tmp_path / "b"))
    assert (done.code, done.err) == (1, "Error response from daemon: the file is not a backup of a swarm\n")
