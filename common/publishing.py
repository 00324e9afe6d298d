"""Labels of a service that say how its ports are published, beyond what Docker's API has words for. Pure.

Labels, because every client keeps them: `docker service update` and `docker stack deploy` would drop a field they don't know.
Managers refuse what this can't read; both daemons read the labels of what was accepted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

ADDRESS_LABEL: Final = "shoal.publish.address"
MASQUERADE_LABEL: Final = "shoal.publish.masquerade"
_TRUE: Final = ("true", "1", "yes")
_FALSE: Final = ("false", "0", "no", "")


def addresses(labels: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses of a node, or the subnets that they lie in, on which ports are published; () for all. Of both families:
    where only one is named, nothing is published on the other.

    Raises ValueError. Overlapping ones are merged, so that a set of rules can hold them.
    """
    text = labels.get(ADDRESS_LABEL, "")
    words = [word.strip() for word in text.split(",") if word.strip()]
    try:
        found = [ipaddress.ip_network(word.strip("[]"), strict=False) for word in words]
    except ValueError as error:
        raise ValueError(f"label {ADDRESS_LABEL}: {error}") from None
    four = ipaddress.collapse_addresses(net for net in found if isinstance(net, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(net for net in found if isinstance(net, ipaddress.IPv6Network))
    return (*(str(net).removesuffix("/32") for net in four), *(str(net).removesuffix("/128") for net in six))


def masquerade(labels: Mapping[str, str]) -> bool:
    """Whether the service's tasks see a node's address instead of the client's. Raises ValueError."""
    text = labels.get(MASQUERADE_LABEL, "").strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(f'label {MASQUERADE_LABEL} is "{text}": it must be true or false')
    return text in _TRUE
