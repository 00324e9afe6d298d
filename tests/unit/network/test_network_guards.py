"""What agent/network/kernel.py does first: nothing of an encrypted network is up unless what keeps plain text in stands."""

from __future__ import annotations

import errno
from typing import cast

import pytest

from agent.network import encryption, kernel, names
from agent.network.encryption import End, Key
from agent.network.facts import (
    Bridge,
    Change,
    Fact,
    Facts,
    Forward,
    KernelView,
    Namespace,
    SealPolicy,
    SealState,
    Sysctl,
    Table,
    Vxlan,
    after,
    is_guard,
)
from agent.network.kernel import Kernel
from agent.network.thread import Namespaces

ME, PEER = End(1, "192.0.2.1"), End(2, "192.0.2.2")
HOST: Facts = encryption.facts(ME, (PEER,), (Key(1, b"k" * 32),)) | {Sysctl("net/ipv4/ip_forward", "1")}
SEALED: Facts = frozenset((
    Namespace(), Bridge("br0", 1416), Vxlan("vxlan0", 5000, ME.address, 1416, "br0", names.SEALED_PORT),
    Forward("02:42:0a:00:01:06", PEER.address),
))  # fmt: skip
OPEN: Facts = frozenset((Namespace(), Bridge("br0", 1450), Vxlan("vxlan0", 5001, ME.address, 1450, "br0")))
WANTED: KernelView = {names.HOST: HOST, "n-sealed": SEALED, "n-open": OPEN}


class Machine:
    """A kernel that does as it is told, but for what it refuses; it must never hold a tunnel that nothing guards."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.view: dict[str, Facts] = {names.HOST: frozenset()}
        self.refused: tuple[type, ...] = ()
        self.kept: tuple[type, ...] = ()
        self.unreadable = False
        monkeypatch.setattr(kernel, "Watch", lambda _: None)
        monkeypatch.setattr(kernel, "Reader", lambda _: self)
        monkeypatch.setattr(kernel, "Maker", lambda *_: self)
        self.kernel = Kernel(cast(Namespaces, None))

    def read(self, name: str, wanted: Facts, closely: bool = False) -> Facts:
        if name == names.HOST and self.unreadable:
            raise OSError(errno.EINTR, "interrupted")
        return self.view.get(name, frozenset())

    def begin(self) -> None: ...
    def free_ingress_leg(self, name: str) -> bool:
        return False

    def make(self, name: str, fact: Fact, standing: Facts) -> Facts:
        if isinstance(fact, self.refused):
            raise OSError(errno.ENOMEM, "no memory")
        self._done(Change(name, fact))
        return frozenset()

    def remove(self, name: str, fact: Fact) -> None:
        if isinstance(fact, self.kept):
            raise OSError(errno.EBUSY, "busy")
        self._done(Change(name, fact, remove=True))

    def _done(self, change: Change) -> None:
        self.view = after(self.view, (change,))
        if change.fact in SEALED and isinstance(change.fact, Vxlan) and not change.remove:
            assert {f for f in HOST if is_guard(f)} <= self.view[names.HOST]

    def move(self, wanted: KernelView = WANTED) -> dict[str, Exception]:
        self.kernel.forget(WANTED)
        return self.kernel.move(wanted, WANTED)

    @property
    def tunnel(self) -> bool:
        return any(isinstance(f, Vxlan) for f in self.view.get("n-sealed", ()))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_all_of_it(machine: Machine) -> None:
    assert machine.move() == {}
    assert machine.view == WANTED


def test_what_fails_before_does_not_let_a_tunnel_go_ahead(machine: Machine) -> None:
    """A sysctl that can't be set ends the work on the host's namespace: the guards stand all the same."""
    machine.refused = (Sysctl,)
    assert machine.move().keys() == {names.HOST}
    assert machine.tunnel


@pytest.mark.parametrize("refused", [SealPolicy, Table])
def test_without_guards_the_tunnel_waits_and_says_why(machine: Machine, refused: type) -> None:
    machine.refused = (refused,)
    failed = machine.move()
    assert str(failed["n-sealed"]) == "[Errno 12] no memory"
    assert names.HOST in failed
    assert not machine.tunnel
    assert machine.view["n-open"] == OPEN
    machine.refused = ()
    assert machine.move() == {}
    assert machine.view == WANTED


def test_a_tunnel_that_stands_goes_with_its_guards(machine: Machine) -> None:
    machine.move()
    machine.view[names.HOST] -= {SealPolicy("out")}
    machine.refused = (SealPolicy,)
    assert "n-sealed" in machine.move()
    assert not machine.tunnel
    machine.refused = ()
    assert machine.move() == {}
    assert machine.view == WANTED


def test_a_peer_that_cannot_be_sealed_to_is_blocked_by_the_guards(machine: Machine) -> None:
    machine.refused = (SealState,)
    assert machine.move().keys() == {names.HOST}
    assert machine.tunnel
    assert not [f for f in machine.view[names.HOST] if isinstance(f, SealPolicy) and f.destination]


def test_while_the_host_cannot_be_read_tunnels_stay_as_they_are(machine: Machine) -> None:
    machine.unreadable = True
    assert machine.move().keys() == {names.HOST, "n-sealed"}
    assert not machine.tunnel
    machine.unreadable = False
    machine.move()
    machine.unreadable = True
    assert "n-sealed" in machine.move()
    assert machine.tunnel


def test_guards_outlive_a_tunnel_that_cannot_be_taken_away(machine: Machine) -> None:
    machine.move()
    machine.kept = (Vxlan,)
    assert "n-sealed" in machine.move({})
    assert machine.tunnel and encryption.guards() <= machine.view[names.HOST]
    machine.kept = ()
    assert machine.move({}) == {}
    assert not machine.tunnel and not [f for f in machine.view[names.HOST] if is_guard(f)]
