"""Containers as the Engine API shows them."""

from agent.engine import container_shapes
from agent.engine.container_networks import Around
from agent.runtime.api import ContainerConfig, ContainerState, Mount, Status


def test_files_of_configs_are_not_among_the_mounts() -> None:
    mounts = (Mount("bind", "/srv", "/data"), Mount("bind", "/run/0", "/etc/app", True, listed=False))
    config = ContainerConfig(id="c" * 64, name="web.1.t1", image="nginx", mounts=mounts)
    state = ContainerState(config.id, config.name, config.image, {}, Status.RUNNING, config=config)
    for shown in (
        container_shapes.summary(state, Around(), None, 0),
        container_shapes.inspection(state, None, Around(), "/folder"),
    ):
        assert [mount["Destination"] for mount in shown["Mounts"]] == ["/data"]
