"""`shoal swarm …`."""

from __future__ import annotations

from typing import Any

from cli.command import NONE, ONE, PROGRAM, Command, Entry, Group, Session
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.swarm_spec import INIT_FLAGS, JOIN_FLAGS, SPEC_FLAGS, apply_spec, check_availability
from cli.values.basic import BOOL, STRING

GROUP = Group(
    "Manage Swarm",
    (
        Entry("backup", "Back up the swarm to a file", "cli.swarm_backup:BACKUP"),
        Entry("ca", "Display and rotate the root CA", "cli.swarm_ca:CA"),
        Entry("init", "Initialize a swarm", "cli.swarm:INIT"),
        Entry("join", "Join a swarm as a node and/or manager", "cli.swarm:JOIN"),
        Entry("join-token", "Manage join tokens", "cli.swarm:JOIN_TOKEN"),
        Entry("leave", "Leave the swarm", "cli.swarm:LEAVE"),
        Entry("restore", "Restore the swarm from a backup", "cli.swarm_backup:RESTORE"),
        Entry("unlock", "Unlock swarm", "cli.swarm:UNLOCK"),
        Entry("unlock-key", "Manage the unlock key", "cli.swarm:UNLOCK_KEY"),
        Entry("update", "Update the swarm", "cli.swarm:UPDATE"),
    ),
)


def _init(session: Session, flags: Values, _: list[str]) -> int:
    check_availability(flags)
    spec: dict[str, Any] = {
        "Labels": None,
        "Orchestration": {},
        "Raft": {"ElectionTick": 0, "HeartbeatTick": 0},
        "Dispatcher": {},
        "CAConfig": {},
        "TaskDefaults": {},
        "EncryptionConfig": {"AutoLockManagers": False},
    }
    apply_spec(spec, flags)
    pools = flags.every("default-addr-pool")
    request = {
        "ListenAddr": flags.text("listen-addr"),
        "AdvertiseAddr": flags.text("advertise-addr"),
        "DataPathAddr": flags.text("data-path-addr"),
        "DataPathPort": flags["data-path-port"],
        "ForceNewCluster": flags.on("force-new-cluster"),
        "Spec": spec,
        "AutoLockManagers": flags.on("autolock"),
        "Availability": flags.text("availability").lower() if flags.changed("availability") else "",
        "DefaultAddrPool": pools,
        "SubnetSize": flags["default-addr-pool-mask-length"],
    }
    node_id = session.client.post("/swarm/init", request)
    session.say(f"Swarm initialized: current node ({node_id}) is now a manager.\n")
    join_command(session, node_id, worker=True)
    session.say(
        f"To add a manager to this swarm, run '{PROGRAM} swarm join-token manager' and follow the instructions."
    )
    if flags.on("autolock"):
        unlock_advice(session, session.client.get("/swarm/unlockkey")["UnlockKey"])
    return 0


def join_command(session: Session, node_id: str, worker: bool) -> None:
    node = session.client.get(f"/nodes/{node_id}")
    swarm = session.client.get("/swarm")
    manager = node.get("ManagerStatus")
    if manager is None:
        raise CliError("This node is not a swarm manager. Use a manager to see the join token.")
    kind = "Worker" if worker else "Manager"
    session.say(f"To add a {kind.lower()} to this swarm, run the following command:\n")
    session.say(f"    {PROGRAM} swarm join --token {swarm['JoinTokens'][kind]} {manager['Addr']}\n")


def unlock_advice(session: Session, key: str) -> None:
    session.say(
        f"To unlock a swarm manager after it restarts, run the `{PROGRAM} swarm unlock`\n"
        f"command and provide the following key:\n\n    {key}\n\n"
        "Remember to store this key in a password manager, since without it you\n"
        "will not be able to restart the manager."
    )


def _join(session: Session, flags: Values, addresses: list[str]) -> int:
    check_availability(flags)
    session.client.post(
        "/swarm/join",
        {
            "ListenAddr": flags.text("listen-addr"),
            "AdvertiseAddr": flags.text("advertise-addr"),
            "DataPathAddr": flags.text("data-path-addr"),
            "RemoteAddrs": addresses,
            "JoinToken": flags.text("token"),
            "Availability": flags.text("availability").lower() if flags.changed("availability") else "",
        },
    )
    info = session.client.get("/info")
    role = "manager" if info.get("Swarm", {}).get("ControlAvailable") else "worker"
    session.say(f"This node joined a swarm as a {role}.")
    return 0


def _rotate(session: Session, worker: bool = False, manager: bool = False, key: bool = False) -> None:
    swarm = session.client.get("/swarm")
    write_swarm(session, swarm, worker, manager, key)


def write_swarm(
    session: Session, swarm: dict[str, Any], worker: bool = False, manager: bool = False, key: bool = False
) -> None:
    query = {
        "version": str(swarm["Version"]["Index"]),
        "rotateWorkerToken": str(worker).lower(),
        "rotateManagerToken": str(manager).lower(),
        "rotateManagerUnlockKey": str(key).lower(),
    }
    session.client.post("/swarm/update", swarm["Spec"], query)


def _join_token(session: Session, flags: Values, names: list[str]) -> int:
    role = names[0]
    if role not in ("worker", "manager"):
        raise CliError(f"unknown role {role}")
    worker = role == "worker"
    if flags.on("rotate"):
        _rotate(session, worker=worker, manager=not worker)
        if not flags.on("quiet"):
            session.say(f"Successfully rotated {role} join token.\n")
    swarm = session.client.get("/swarm")
    if flags.on("quiet"):
        session.say(swarm["JoinTokens"]["Worker" if worker else "Manager"])
        return 0
    info = session.client.get("/info")
    join_command(session, info["Swarm"]["NodeID"], worker)
    return 0


def _leave(session: Session, flags: Values, _: list[str]) -> int:
    session.client.post("/swarm/leave", query={"force": "1"} if flags.on("force") else {})
    session.say("Node left the swarm.")
    return 0


def _update(session: Session, flags: Values, _: list[str]) -> int:
    if not flags.changed(*(flag.name for flag in SPEC_FLAGS)):
        from cli.help import command_help

        session.out.write(command_help(f"{PROGRAM} swarm update", UPDATE))
        return 0
    swarm = session.client.get("/swarm")
    was_locked = (swarm["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers", False)
    apply_spec(swarm["Spec"], flags)
    write_swarm(session, swarm)
    session.say("Swarm updated.")
    if flags.on("autolock") and not was_locked:
        unlock_advice(session, session.client.get("/swarm/unlockkey")["UnlockKey"])
    return 0


def _unlock_key(session: Session, flags: Values, _: list[str]) -> int:
    if flags.on("rotate"):
        _rotate(session, key=True)
        if not flags.on("quiet"):
            session.say("Successfully rotated manager unlock key.")
    try:
        key = session.client.get("/swarm/unlockkey")["UnlockKey"]
    except CliError as error:
        raise CliError(f"could not fetch unlock key: {error.message}") from None
    if not key:
        raise CliError("no unlock key is set")
    if flags.on("quiet"):
        session.say(key)
    else:
        unlock_advice(session, key)
    return 0


def _unlock(session: Session, _: Values, __: list[str]) -> int:
    state = session.client.get("/info").get("Swarm", {}).get("LocalNodeState", "inactive")
    if state == "inactive":
        raise CliError("Error: This node is not part of a swarm")
    if state != "locked":
        raise CliError("Error: swarm is not locked")
    if session.stdin.isatty():
        import getpass

        key = getpass.getpass("Enter unlock key: ")
    else:
        key = session.stdin.readline()
    session.client.post("/swarm/unlock", {"UnlockKey": key.strip()})
    return 0


INIT = Command("[OPTIONS]", "Initialize a swarm", _init, INIT_FLAGS, NONE)
JOIN = Command(
    "[OPTIONS] HOST:PORT",
    "Join a swarm as a node and/or manager",
    _join,
    (*JOIN_FLAGS, Flag("token", STRING, "Token for entry into the swarm")),
    ONE,
)
_QUIET = Flag("quiet", BOOL, "Only display token", short="q")
JOIN_TOKEN = Command(
    "[OPTIONS] (worker|manager)",
    "Manage join tokens",
    _join_token,
    (_QUIET, Flag("rotate", BOOL, "Rotate join token")),
    ONE,
)
LEAVE = Command(
    "[OPTIONS]",
    "Leave the swarm",
    _leave,
    (Flag("force", BOOL, "Force this node to leave the swarm, ignoring warnings", short="f"),),
)
UPDATE = Command("[OPTIONS]", "Update the swarm", _update, SPEC_FLAGS)
UNLOCK_KEY = Command(
    "[OPTIONS]", "Manage the unlock key", _unlock_key, (_QUIET, Flag("rotate", BOOL, "Rotate unlock key"))
)
UNLOCK = Command("", "Unlock swarm", _unlock)
