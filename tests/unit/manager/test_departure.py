"""What a manager's user is warned of before it leaves, in Docker's words."""

import pytest
from agreement import node

from common import model
from manager.departure import warning
from manager.store.tables import view_of

HEAD = "You are attempting to leave the swarm on a node that is participating as a manager. "
TAIL = (
    "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. "
    "Use `--force` to suppress this message."
)


def manager(number: int, up: bool) -> model.Node:
    reachability = model.Reachability.REACHABLE if up else model.Reachability.UNREACHABLE
    status = model.ManagerStatus(False, reachability, "10.0.0.1:2377", number)
    return node(f"m{number}", status=status)


@pytest.mark.parametrize(
    ("up", "down", "text"),
    [
        (1, 0, "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."),
        (2, 0, f"Removing this node leaves 1 managers out of 2. Without a Raft quorum your swarm will be inaccessible. {TAIL}"),
        (2, 1, f"Removing this node leaves 1 managers out of 3. Without a Raft quorum your swarm will be inaccessible. {TAIL}"),
        (3, 0, TAIL),
        (3, 1, f"Removing this node leaves 2 managers out of 4. Without a Raft quorum your swarm will be inaccessible. {TAIL}"),
        (4, 1, TAIL),
        (5, 0, TAIL),
    ],
)  # fmt: skip
def test_counts(up: int, down: int, text: str) -> None:
    managers = [manager(n, n < up) for n in range(up + down)]
    assert warning(view_of([*managers, node("w", model.NodeRole.WORKER)])) == HEAD + text


def test_a_manager_that_does_not_run() -> None:
    assert warning(None) == f"{HEAD}Doing so may lose the consensus of your cluster. {TAIL}"
