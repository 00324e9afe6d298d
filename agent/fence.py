"""Which assignment messages an agent may believe. Pure; agent/session.py asks before it takes anything in.

Every message carries (cluster id, epoch, term, store index). The agent keeps the highest that it has seen. A lower one comes
from a leader that was replaced, or from managers that were set back to an old backup: taking it would empty the
node, so it is refused. `restore` and `--force-new-cluster` raise the epoch, which makes their lower indexes new again.
"""

from __future__ import annotations

from common import model


def order(fence: model.Fence) -> tuple[int, int, int]:
    """What is compared: a higher one is newer, whatever the message says."""
    return (fence.epoch, fence.term, fence.index)


def refusal(seen: model.Fence, offered: model.Fence) -> str | None:
    """Why `offered` must not be taken after `seen`, for the log; None when it may."""
    if seen.cluster_id and offered.cluster_id != seen.cluster_id:
        return f"it is of cluster {offered.cluster_id or 'without an id'}, this node belongs to {seen.cluster_id}"
    for name, old, new in zip(("epoch", "term", "index"), order(seen), order(offered), strict=True):
        if new < old:
            return f"its {name} {new} is lower than {old}, which this node has seen"
        if new > old:
            return None
    return None
