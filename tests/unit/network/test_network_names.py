"""Names of kernel objects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.network import names
from common.ids import encode_id

IDS = st.binary(min_size=17, max_size=17).map(encode_id)
ADDRESSES = st.ip_addresses(v=4).map(str)


@given(st.sets(IDS, min_size=2, max_size=20))
def test_interface_names_fit_and_differ(ids: set[str]) -> None:
    made = [f(i) for i in ids for f in (names.sandbox_port, names.gateway_port)]
    assert len(set(made)) == len(made)
    assert all(len(name) <= 15 for name in made)


@given(st.text(alphabet="abcdef0123456789", min_size=1, max_size=64))
def test_any_id_gives_a_port_that_is_known_as_ours(identifier: str) -> None:
    assert names.is_gateway_port(names.gateway_port(identifier))
    assert not names.is_gateway_port(names.sandbox_port(identifier))


def test_strange_interfaces_are_not_ours() -> None:
    for name in ("eth0", "docker0", "veth1a2b3c4", "gre0", "gretap0", names.GATEWAY_BRIDGE):
        assert not names.is_gateway_port(name)


def test_namespaces() -> None:
    assert names.task_of(names.task_namespace("abc")) == "abc"
    assert names.task_of(names.network_namespace("abc")) is None
    assert names.is_sandbox(names.network_namespace("abc"))
    assert not names.is_sandbox(names.HOST)


def test_mac() -> None:
    assert names.mac("10.0.1.255") == "02:42:0a:00:01:ff"


@given(ADDRESSES)
def test_marks_of_backends_and_nodes_are_apart(address: str) -> None:
    mark = names.backend_mark(address)
    assert names.LARGEST_NODE_MARK < mark <= 0xFFFF_FFFF
    assert not mark & (names.DATAGRAMS | names.MASQUERADED)
    assert mark & names.DATAGRAMS_MASK == mark


@given(
    st.tuples(*[st.sampled_from(("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))] * 2),
    st.data(),
)
def test_private_addresses_have_marks_of_their_own(subnets: tuple[str, str], data: st.DataObject) -> None:
    one, other = (str(data.draw(st.ip_addresses(network=subnet))) for subnet in subnets)
    assert (names.backend_mark(one) == names.backend_mark(other)) == (one == other)


def test_route_tables_stay_clear_of_the_kernels_own() -> None:
    assert not {names.route_table(n) for n in range(1, 1000)} & {0, 253, 254, 255}


def test_chain_names() -> None:
    assert names.chain_name("vip", "10.0.1.2") == "vip_10_0_1_2"
