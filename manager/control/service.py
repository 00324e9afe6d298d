"""The Control service of proto/control.proto: every method, put together from the parts of this package.

The daemon serves it on the unix socket (for this node's agent) and over mTLS (for other managers).
"""

from __future__ import annotations

from manager.control.clusters import ClusterMethods
from manager.control.configs import ConfigMethods
from manager.control.networks import NetworkMethods
from manager.control.nodes import NodeMethods
from manager.control.services import ServiceMethods
from manager.control.tasks import TaskMethods


class Control(ClusterMethods, NodeMethods, ServiceMethods, TaskMethods, NetworkMethods, ConfigMethods):
    """Made by the daemon for each term."""
