"""The cluster's state in memory: tables with indexes, transactions through consensus, watches without a gap."""

from manager.store.store import Change, ChangeKind, ChangeSet, Store, Transaction, Watch
from manager.store.view import THIS_INDEX, ReadView, StoreObject, Table

__all__ = [
    "THIS_INDEX",
    "Change",
    "ChangeKind",
    "ChangeSet",
    "ReadView",
    "Store",
    "StoreObject",
    "Table",
    "Transaction",
    "Watch",
]
