"""GET /networks/{id}/check: which network is meant, what the managers answer, and what cannot be checked."""

from common import errors, model

WEB = model.Network(
    id="la5i6y4ct6mere8zry8m5me1n",
    vni=4097,
    spec=model.NetworkSpec(name="my-net", driver=model.Driver("overlay")),
)


async def test_the_managers_answer(manager):
    manager.manager.add(WEB)
    manager.swarm.check = model.NetworkCheck(
        id="c", mtu=1450,
        nodes=(model.CheckedNode("n1", "manager1", "192.0.2.1", "ready", True, -5, 2, 1),),
        faults=(model.CheckFault("4789", ("n1",), "n2", "nothing arrives"),),
    )  # fmt: skip
    for ref in ("my-net", "la5i6"):
        status, body = await manager.ask("GET", f"/networks/{ref}/check")
        assert status == 200
        assert body == {
            "Network": {"Id": WEB.id, "Name": "my-net", "VXLANId": 4097, "MTU": 1450},
            "Nodes": [
                {
                    "ID": "n1", "Hostname": "manager1", "Addr": "192.0.2.1", "State": "ready", "OnNetwork": True,
                    "ClockOffset": -5, "Names": 2, "VIPs": 1,
                }
            ],
            "Faults": [{"Kind": "4789", "From": ["n1"], "To": "n2", "Text": "nothing arrives"}],
        }  # fmt: skip
    assert manager.swarm.checked == [WEB.id] * 2


async def test_what_cannot_be_checked(manager):
    manager.manager.add(WEB)
    assert await manager.ask("GET", "/networks/gone/check") == (404, {"message": "network gone not found"})
    status, body = await manager.ask("GET", "/networks/bridge/check")
    assert (status, body["message"]) == (
        400,
        "network bridge is this node's own: it connects no nodes with each other",
    )
    manager.swarm.failure = errors.Unavailable("this node has no session with a manager")
    status, body = await manager.ask("GET", "/networks/my-net/check")
    assert (status, body["message"]) == (503, "this node has no session with a manager")
