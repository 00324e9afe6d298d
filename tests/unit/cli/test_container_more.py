"""port, rename, pause, unpause and top."""

from __future__ import annotations

from fake_daemon import Daemon, Shoal

PORTS = {
    "81/tcp": None,
    "443/tcp": [{"HostIp": "", "HostPort": "8443"}, {"HostIp": "::1", "HostPort": "8443"}],
    "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
}


def test_port(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/containers/web/json", {"NetworkSettings": {"Ports": PORTS}})
    assert shoal("port", "web").out == (
        "53/udp -> 127.0.0.1:5353\n443/tcp -> 0.0.0.0:8443\n443/tcp -> [::1]:8443\n"
    )
    assert shoal("port", "web", "443").out == "0.0.0.0:8443\n[::1]:8443\n"
    assert shoal("container", "port", "web", "53/udp").out == "127.0.0.1:5353\n"
    refused = shoal("port", "web", "81")
    assert (refused.code, "Error: No public port '81' published for web" in refused.err) == (1, True)
    daemon.says("GET", "/containers/none/json", {"NetworkSettings": {"Ports": {}}})
    assert shoal("port", "none").out == ""


def test_rename_pause_and_unpause(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("POST", "/containers/one/rename", status=204, name="two")
    assert (shoal("rename", "one", "two").code, daemon.asked[-1].query) == (0, {"name": "two"})
    daemon.says("POST", "/containers/gone/rename", {"message": "No such container: gone"}, 404, name="two")
    assert shoal("rename", "gone", "two").err == (
        "Error response from daemon: No such container: gone\nError: failed to rename container named gone\n"
    )
    assert shoal("rename", "one", "").err == "Error: Neither old nor new names may be empty\n"
    for action in ("pause", "unpause"):
        daemon.says("POST", f"/containers/one/{action}", status=204)
        daemon.says("POST", f"/containers/two/{action}", {"message": "Container two is not running"}, 409)
        done = shoal(action, "one", "two")
        assert (done.code, done.out, "Container two is not running" in done.err) == (1, "one\n", True)


def test_top(daemon: Daemon, shoal: Shoal) -> None:
    found = {"Titles": ["UID", "PID", "CMD"], "Processes": [["root", "7", "sleep 10"]]}
    daemon.says("GET", "/containers/one/top", found)
    assert shoal("top", "one").out == "UID       PID       CMD\nroot      7         sleep 10\n"
    daemon.says("GET", "/containers/one/top", found, ps_args="-o pid,args -A")
    assert shoal("top", "one", "-o", "pid,args", "-A").code == 0
