"""The swarm itself by the Control service."""

from dataclasses import replace

from control_bench import CALLER, SECOND, Bench, refused

from common import model


async def test_updates_of_the_swarm(bench: Bench) -> None:
    cluster = (await bench.control.get_cluster(model.Nothing(), CALLER)).cluster
    root = model.RootCA(digest="ab" * 32, join_tokens=model.JoinTokens("w", "m"))
    await bench.put(replace(cluster, root_ca=root))
    cluster = bench.store.view().cluster
    request = model.UpdateClusterRequest(
        version=cluster.version,
        spec=model.ClusterSpec(dispatcher=model.DispatcherConfig(heartbeat_period=7 * SECOND)),
        rotate_worker_token=True,
    )
    after = (await bench.control.update_cluster(request, CALLER)).cluster
    assert after.spec.dispatcher.heartbeat_period == 7 * SECOND
    assert after.root_ca.join_tokens.worker.startswith("SWMTKN-1-")
    assert after.root_ca.join_tokens.manager == "m"
    await refused(bench.control.update_cluster(request, CALLER), "Unknown", "update out of sequence")


async def test_the_unlock_key_comes_with_autolock_and_goes_with_it(bench):
    async def update(locked: bool, rotate: bool = False) -> tuple[str, int]:
        cluster = bench.store.view().cluster
        spec = model.ClusterSpec(encryption=model.EncryptionConfig(locked))
        request = model.UpdateClusterRequest(cluster.version, spec, rotate_unlock_key=rotate)
        await bench.control.update_cluster(request, CALLER)
        reply = await bench.control.get_cluster(model.Nothing(), CALLER)
        return reply.unlock_key, reply.cluster.unlock_generation

    assert await update(False, rotate=True) == ("", 0)
    key, generation = await update(True)
    assert (key[:9], len(key), generation) == ("SWMKEY-1-", 52, 1)
    assert await update(True) == (key, 1)
    assert (await update(True, rotate=True))[1] == 2
    assert await update(False) == ("", 3)
