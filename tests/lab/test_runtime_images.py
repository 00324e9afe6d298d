"""The runtime's images: from an archive, from a registry, while containerd dies."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtime.api import ContainerConfig
from agent.runtime.image import PullEvent
from agent.runtime.registry import RegistrySettings
from agent.runtime.service import ContainerdRuntime
from common import errors
from common.ids import new_container_id
from tests.addresses import own_loopback
from tests.lab.containerd import OwnContainerd, busybox_layout
from tests.lab.runtimes import IMAGE, PATIENCE, run, running
from tests.lab.support import until

pytestmark = pytest.mark.lab


async def test_images(runtime: ContainerdRuntime) -> None:
    info = await runtime.image(IMAGE)
    assert info is not None
    assert info.tags == (IMAGE,)
    assert info.size > 1 << 20
    assert (await runtime.image(info.id[7:19])) == info
    await runtime.tag_image(IMAGE, "other/name:1")
    assert {tag for image in await runtime.images() for tag in image.tags} >= {IMAGE, "other/name:1"}
    removed = await runtime.remove_image("other/name:1")
    assert [item.untagged for item in removed] == ["other/name:1"]
    with pytest.raises(errors.NotFound, match=r"^No such image: other/name:1$"):
        await runtime.remove_image("other/name:1")


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """A registry on loopback, as a mirror would run."""
    root = Path(tempfile.mkdtemp(prefix="shoal-reg-"))
    address = (own_loopback(1), 5000)
    config = root / "config.yml"
    config.write_text(
        f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\n"
        f"http:\n  addr: {address[0]}:{address[1]}\n"
    )
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(address) == 0

    until(answers, 30, "the registry answers", every=0.02)
    yield f"{address[0]}:{address[1]}"
    server.terminate()
    server.wait()
    shutil.rmtree(root)


async def push(registry: str, name: str, layout: bytes) -> str:
    """The image of an OCI layout into a registry; answers with the manifest's digest."""
    import io
    import json
    import tarfile

    import aiohttp

    tar = tarfile.open(fileobj=io.BytesIO(layout))  # noqa: SIM115
    blobs = {n.rsplit("/", 1)[1]: tar.extractfile(n).read() for n in tar.getnames() if n.startswith("blobs/")}
    entry = json.loads(tar.extractfile("index.json").read())["manifests"][0]
    repository, _, tag = name.partition(":")
    base = f"http://{registry}/v2/{repository}"
    async with aiohttp.ClientSession() as http:
        for digest, data in blobs.items():
            async with http.post(f"{base}/blobs/uploads/") as answer:
                where = answer.headers["Location"]
            async with http.put(
                where, params={"digest": f"sha256:{digest}"}, data=io.BytesIO(data)
            ) as answer:
                assert answer.status == 201, await answer.text()
        manifest = blobs[entry["digest"][7:]]
        headers = {"Content-Type": entry["mediaType"]}
        async with http.put(f"{base}/manifests/{tag}", data=manifest, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
    return str(entry["digest"])


async def test_pull(containerd: OwnContainerd, registry: str) -> None:
    digest = await push(registry, "library/web:1", busybox_layout("web:1", Labels={"fresh": "one"}))
    settings = RegistrySettings(mirrors=(f"http://{registry}",), insecure=())
    async with running(containerd, namespace="pulling", registry=settings) as runtime:
        said: list[PullEvent] = []
        infos = await asyncio.gather(
            runtime.pull("web:1", None, said.append), *(runtime.pull("web:1") for _ in range(4))
        )
        assert all(info == infos[0] for info in infos)
        assert infos[0].tags == ("web:1",)
        assert infos[0].digests == (f"web@{digest}",)
        words = [event.status for event in said]
        assert words[0] == "Pulling from library/web"
        assert words[-2:] == [f"Digest: {digest}", "Status: Downloaded newer image for web:1"]
        assert words.count("Pull complete") == 2
        assert "Downloading" in words
        await runtime.pull("web:1", None, said.append)
        assert said[-1].status == "Status: Image is up to date for web:1"
        pinned = await runtime.image(f"web:1@{digest}")
        assert pinned is not None
        assert (await runtime.distribution("web:1")).descriptor.digest == digest
        assert (await runtime.distribution("web:1")).platforms[0].os == "linux"
        with pytest.raises(errors.NotFound, match="manifest unknown"):
            await runtime.pull(f"{registry}/library/web:2")
        # By digest without asking anyone.
        assert (await runtime.pull(f"web:7@{digest}")).id == infos[0].id
        own = await runtime.pull(f"{registry}/library/web:1")
        assert f"{registry}/library/web:1" in own.tags
        config = ContainerConfig(
            id=new_container_id(), name="w", image=f"web:1@{digest}", args=("cat", "/etc/hello")
        )
        assert await run(runtime, config) == (0, "hello\n")
        await runtime.remove(config.id)


async def test_pull_survives_containerds_death(containerd: OwnContainerd, registry: str) -> None:
    layout = busybox_layout("big:1", Labels={"fresh": "two"})
    digest = await push(registry, "big:1", layout)
    async with running(containerd, namespace="pulling2") as runtime:

        def progress(event: PullEvent) -> None:
            if event.status == "Downloading" and not killed:
                killed.append(event)
                containerd.kill()
                containerd.start()

        killed: list[PullEvent] = []
        info = await asyncio.wait_for(runtime.pull(f"{registry}/big:1", None, progress), PATIENCE)
        assert info.digests == (f"{registry}/big@{digest}",)
        assert killed
