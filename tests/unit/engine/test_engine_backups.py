"""/swarm/backup and /swarm/restore of the engine."""

import base64

import pytest

from agent.engine.backend import RestoreOptions
from agent.engine.backups import ALREADY
from common import errors, model

PHRASE = {"X-Backup-Passphrase": base64.b64encode("schön".encode()).decode()}
REPLY = model.RestoreReply(
    "node", "cluster", b"", 1_795_227_620_500_000_000, True, False, ("m2", "m3"), 4, "192.0.2.1:2377"
)


@pytest.fixture
def backups(world):
    """What the membership has to say; `asked` is what it was asked."""
    asked = []

    async def backup(passphrase):
        asked.append(passphrase)
        world.swarm._fail()
        for piece in (b"one", b"two" * 100_000):
            yield piece

    async def restore(options, data):
        asked.append((options, data))
        world.swarm._fail()
        return REPLY

    world.swarm.backup, world.swarm.restore = backup, restore
    return asked


async def test_a_backup_comes_as_bytes(world, backups):
    async with world.client.request("GET", "/v1.50/swarm/backup", headers=PHRASE) as response:
        assert (response.status, response.content_type) == (200, "application/octet-stream")
        assert await response.read() == b"one" + b"two" * 100_000
    assert backups == ["schön"]


async def test_an_error_before_the_first_byte_is_an_answer(world, backups):
    world.swarm.failure = errors.Unavailable("no leader")
    assert await world.ask("GET", "/swarm/backup") == (503, {"message": "no leader"})
    assert backups == [""]


@pytest.mark.parametrize("header", ["%", "QQ", base64.b64encode(b"\xff").decode()])
async def test_a_passphrase_that_cannot_be_read(world, backups, header):
    status, said = await world.ask("GET", "/swarm/backup", headers={"X-Backup-Passphrase": header})
    assert status == 400 and said["message"].startswith("invalid X-Backup-Passphrase header")
    assert not backups


async def test_restore(world, backups):
    async with world.client.request(
        "POST", "/swarm/restore?advertiseAddr=eth0&listenAddr=0.0.0.0:2400&force=0", data=b"file", headers=PHRASE
    ) as response:  # fmt: skip
        assert response.status == 200
        assert await response.json() == {
            "NodeID": "node", "ClusterID": "cluster", "Created": "2026-11-21T02:20:20.5Z", "KnownNode": True,
            "KnownAddr": False, "AdvertiseAddr": "192.0.2.1:2377", "FormerManagers": ["m2", "m3"],
            "OtherNodes": 4,
        }  # fmt: skip
    assert backups == [(RestoreOptions("0.0.0.0:2400", "192.0.2.1:2400", "", "schön", False), b"file")]


async def test_a_member_is_replaced_by_force_only(world, backups):
    world.swarm.become(manager=False)
    assert await world.ask("POST", "/swarm/restore", None) == (503, {"message": ALREADY})
    assert not backups
    status, _ = await world.ask("POST", "/swarm/restore?force=1", None)
    assert status == 200
    assert backups[0][0].force


async def test_addresses_are_checked_first(world, backups):
    status, said = await world.ask("POST", "/swarm/restore?advertiseAddr=300.1.1.1", None)
    assert status == 400 and said["message"].startswith("advertise address must be")
    assert not backups
