"""agent/engine/machine.py and the small pure parts: lookup and the cache of encoded objects."""

from agent.engine import lookup, machine
from agent.engine.cache import EncodedObjects
from common import apijson, model


def test_os_release():
    text = '# comment\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
    assert machine.os_release(text) == {
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)", "VERSION_ID": "12", "ID": "debian",
    }  # fmt: skip


async def test_this_machine():
    made = machine.Machine("id", "/var/lib/shoal", 1, mirrors=("http://192.0.2.1",))
    info = made.info()
    assert (info.id, info.registry_mirrors, info.cgroup_version in ("1", "2")) == (
        "id",
        ("http://192.0.2.1",),
        True,
    )
    assert info.cpus > 0
    assert info.memory > 1 << 20
    assert "127.0.0.1/8" in [item.address for item in await made.addresses() if item.interface == "lo"]


def test_lookup():
    things = [("abc", "one"), ("abd", "two"), ("x", "abc")]

    def found(ref):
        return lookup.matches(things, ref, lambda t: t[0], lambda t: t[1])

    assert found("abc") == [things[0]], "an id wins over a name"
    assert found("two") == [things[1]]
    assert found("ab") == things[:2]
    assert found("") == []


def test_encoded_objects_follow_the_version_and_what_is_filled_in():
    encoded = EncodedObjects(capacity=2)
    first = model.Service(id="s", version=1, spec=model.ServiceSpec(name="one"))
    changed = model.Service(id="s", version=2, spec=model.ServiceSpec(name="two"))
    listed = model.Service(id="s", version=2, spec=changed.spec, status=model.ServiceStatus(1, 2, 0))
    for service in (first, changed, listed, changed, first):
        for _ in range(2):
            assert encoded.one(service) == apijson.dumps(service)
    nodes = [model.Node(id=str(n), version=1) for n in range(5)]
    assert encoded.many(nodes) == b"[" + b",".join(apijson.dumps(node) for node in nodes) + b"]"
    unversioned = model.Node(id="0", spec=model.NodeSpec(name="later"))
    assert encoded.one(unversioned) == apijson.dumps(unversioned)
