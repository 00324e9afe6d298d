"""What must be settled before gRPC and pyroute2 are loaded. Importing this does it; agent/daemon.py imports it first.

gRPC must not meddle with forks (nothing here forks) nor write to stderr what is logged anyway.

`import pyroute2` loads every protocol that the package knows, some 6 MB of them for nothing. A bare package in its place
loads only the modules that are asked for by name; `IPRoute` is looked up when it is needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Final

_FOUND_IN: Final = {"IPRoute": "pyroute2.iproute", "NetlinkError": "pyroute2.netlink.exceptions"}


class _Bare(ModuleType):
    """A package without what its __init__ would import."""

    def __getattr__(self, name: str) -> Any:
        if name not in _FOUND_IN:
            raise AttributeError(f"{self.__name__} was loaded without {name}: see {__name__}")
        return getattr(importlib.import_module(_FOUND_IN[name]), name)


def _bare_pyroute2() -> None:
    """Puts the bare package in place, unless the whole one is loaded already."""
    if "pyroute2" in sys.modules:
        return
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or spec.submodule_search_locations is None:
        return
    bare = _Bare("pyroute2")
    bare.__spec__ = spec
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["pyroute2"] = bare


os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
_bare_pyroute2()
