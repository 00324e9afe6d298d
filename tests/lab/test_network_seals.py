"""The kernel's IPsec database as agent/network/xfrm.py drives it. Policies work on kernels without ESP, too."""

from __future__ import annotations

import pytest

from tests.lab.seals import in_new_namespace, lacking

pytestmark = pytest.mark.lab

PRELUDE = """
import errno, os, socket, subprocess
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # what one CPU sends over lo arrives in its order
from pathlib import Path
from agent.network.facts import SealPolicy, SealState
from agent.network.xfrm import Xfrm
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
GUARDS = {SealPolicy("in"), SealPolicy("out")}
PAIR = SealPolicy("out", "192.0.2.1", "192.0.2.2", 0x102)
"""


def test_policies_come_change_and_go() -> None:
    in_new_namespace(
        PRELUDE
        + """
with Xfrm() as xfrm:
    assert xfrm.read() == frozenset()
    for _ in range(2):
        for policy in (*GUARDS, PAIR):
            xfrm.make_policy(policy)
        assert xfrm.read() == {*GUARDS, PAIR}
    other = SealPolicy("out", "192.0.2.1", "192.0.2.2", 0x103)
    xfrm.make_policy(other)
    assert xfrm.read() == {*GUARDS, other}, xfrm.read()
    theirs = "ip xfrm policy add src 198.51.100.1 dst 198.51.100.2 dir out action block"
    subprocess.run(theirs.split(), check=True)
    assert xfrm.read() == {*GUARDS, other}
    for _ in range(2):
        for policy in (*GUARDS, PAIR):
            xfrm.remove(policy)
    assert xfrm.read() == frozenset()
    shown = subprocess.run(["ip", "xfrm", "policy"], capture_output=True, text=True, check=True).stdout
    assert shown.count("src ") == 1 and "198.51.100.1" in shown
"""
    )


def test_unsealed_packets_neither_leave_nor_arrive() -> None:
    in_new_namespace(
        PRELUDE
        + """
for name in ("disable_policy", "disable_xfrm"):  # as on every other interface
    Path(f"/proc/sys/net/ipv4/conf/lo/{name}").write_text("0")
received = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
received.bind(("127.0.0.1", 4790))
beside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
beside.bind(("127.0.0.1", 4789))
for each in (received, beside):
    each.settimeout(10)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

def arrives():
    sender.sendto(b"plain", ("127.0.0.1", 4790))
    sender.sendto(b"after", ("127.0.0.1", 4789))
    assert beside.recv(9) == b"after"  # what was sent before it has had its turn
    received.setblocking(False)
    try:
        return received.recv(9) == b"plain"
    except BlockingIOError:
        return False

with Xfrm() as xfrm:
    assert arrives()
    xfrm.make_policy(SealPolicy("in"))
    assert not arrives()
    xfrm.remove(SealPolicy("in"))
    assert arrives()
    xfrm.make_policy(SealPolicy("out"))
    try:
        arrives()
    except PermissionError:
        pass
    else:
        raise AssertionError("it left")
    xfrm.remove(SealPolicy("out"))
    assert arrives()
"""
    )


def test_who_flushes_policies_is_heard_of_and_lets_nothing_out() -> None:
    """Between the flush and the repair rules hold plain text back; one table of them nobody else can flush."""
    in_new_namespace(
        PRELUDE
        + """
import select
from agent.network import nft, rules
from agent.network.events import PolicyLost, contradicts
from agent.network.names import HELD_TABLE
from agent.network.watch import Watch
class Nowhere:
    existing = frozenset
watch = Watch(Nowhere())
watch.hear_ipsec()
assert len(watch.descriptors()) == 3
def heard():
    assert select.select(watch.descriptors(), (), (), 30)[0]
    return [event for found in (watch.drain() or {}).values() for event in found]
received = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
received.bind(("127.0.0.1", 4790))
beside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
beside.bind(("127.0.0.1", 4789))
beside.settimeout(10)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def arrives():
    try:
        sender.sendto(b"plain", ("127.0.0.1", 4790))
    except PermissionError:
        return False
    sender.sendto(b"after", ("127.0.0.1", 4789))
    assert beside.recv(9) == b"after"
    received.setblocking(False)
    try:
        return received.recv(9) == b"plain"
    except BlockingIOError:
        return False
held, plain = nft.Context(), nft.Context()
tables = {(held if t.name == HELD_TABLE else plain): t for t in rules.seal_tables()}
with Xfrm() as xfrm:
    for policy in (*GUARDS, PAIR):
        xfrm.make_policy(policy)
    assert arrives()  # on lo policies don't count
    for context in (plain, held):
        context.run(tables[context].text)
        assert not arrives()
    watch.drain()  # of tables
    xfrm.remove(PAIR)
    assert heard() == [PolicyLost("out", "192.0.2.1", "192.0.2.2")]
    assert not contradicts(frozenset(GUARDS), [PolicyLost("out", "192.0.2.1", "192.0.2.2")], "")
    subprocess.run(["ip", "xfrm", "policy", "flush"], check=True)
    assert heard() == [PolicyLost()]
    assert contradicts(frozenset(GUARDS), [PolicyLost()], "")
    assert not arrives()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert xfrm.read() == frozenset() and not arrives()
    held.free()
    assert arrives()
watch.close()
"""
    )


def test_states() -> None:
    """On a kernel that has ESP they come and go; on another the module is named."""
    found = in_new_namespace(
        PRELUDE
        + """
from agent.network.xfrm import missing_module
state = SealState("192.0.2.1", "192.0.2.2", 0x102, bytes(range(20)))
again = SealState("192.0.2.3", "192.0.2.2", 0x102, bytes(20))
with Xfrm() as xfrm:
    try:
        xfrm.make_state(state)
    except OSError as error:
        assert error.errno in (errno.EPROTONOSUPPORT, errno.ENOSYS, errno.ENOENT), error
        assert missing_module() in ("esp4", "gcm")
    else:
        assert missing_module() == ""
        assert xfrm.read() == {state}
        xfrm.make_state(again)
        assert xfrm.read() == {again}
        xfrm.remove(again)
        xfrm.remove(again)
    assert xfrm.read() == frozenset()
    print(missing_module())
"""
    )
    assert found == lacking()
