"""The settings of a swarm as flags of `swarm init`, `join` and `update`, and their way into a spec. Pure."""

from __future__ import annotations

from typing import Any

from cli.errors import CliError
from cli.flags import Flag, Kind, Values
from cli.values.basic import (
    BOOL,
    DURATION,
    INT,
    IP_NETS,
    NODE_ADDR,
    STRING,
    UINT,
    UINT32,
    fields,
)

_DAY_HOURS = 24
_CERT_EXPIRY = 90 * _DAY_HOURS * 3600 * 1_000_000_000


def _external_ca(text: str) -> list[dict[str, Any]]:
    found: dict[str, Any] = {"Protocol": "", "URL": ""}
    options: dict[str, str] = {}
    for key, value, equals in fields(text):
        if not equals:
            raise ValueError(f"invalid field '{key}' must be a key=value pair")
        if key.lower() == "protocol":
            if value.lower() != "cfssl":
                raise ValueError(f"unrecognized external CA protocol {value}")
            found["Protocol"] = "cfssl"
        elif key.lower() == "url":
            found["URL"] = value
        elif key.lower() == "cacert":
            try:
                with open(value, encoding="utf-8") as file:
                    found["CACert"] = file.read()
            except OSError as error:
                raise ValueError(f"unable to read CA cert for external CA: {error.strerror}") from None
        else:
            options[key] = value
    if not found["Protocol"]:
        raise ValueError("the external-ca option needs a protocol= parameter")
    if not found["URL"]:
        raise ValueError("the external-ca option needs a url= parameter")
    if options:
        found["Options"] = options
    return [found]


EXTERNAL_CA = Flag(
    "external-ca",
    Kind("external-ca", _external_ca, repeated=True),
    "Specifications of one or more certificate signing endpoints",
)
CERT_EXPIRY = Flag(
    "cert-expiry",
    DURATION,
    "Validity period for node certificates (ns|us|ms|s|m|h)",
    default=_CERT_EXPIRY,
    shown="2160h0m0s",
)
_AUTOLOCK_INIT = Flag(
    "autolock", BOOL, "Enable manager autolocking (requiring an unlock key to start a stopped manager)"
)
_AUTOLOCK_UPDATE = Flag("autolock", BOOL, "Change manager autolocking setting (true|false)")

_SETTINGS = (
    CERT_EXPIRY,
    Flag("dispatcher-heartbeat", DURATION, "Dispatcher heartbeat period (ns|us|ms|s|m|h)", shown="5s"),
    EXTERNAL_CA,
    Flag("max-snapshots", UINT, "Number of additional Raft snapshots to retain"),
    Flag("snapshot-interval", UINT, "Number of log entries between Raft snapshots", shown="10000"),
    Flag("task-history-limit", INT, "Task history retention limit", shown="5"),
)
SPEC_FLAGS = (_AUTOLOCK_UPDATE, *_SETTINGS)

JOIN_FLAGS = (
    Flag("advertise-addr", STRING, 'Advertised address (format: "<ip|interface>[:port]")'),
    Flag(
        "availability",
        STRING,
        'Availability of the node ("active", "pause", "drain")',
        default="active",
        shown='"active"',
    ),
    Flag(
        "data-path-addr",
        STRING,
        'Address or interface to use for data path traffic (format: "<ip|interface>")',
    ),
    Flag(
        "listen-addr",
        NODE_ADDR,
        'Listen address (format: "<ip|interface>[:port]")',
        default="0.0.0.0:2377",
        shown="0.0.0.0:2377",
    ),
)
INIT_FLAGS = (
    *JOIN_FLAGS,
    _AUTOLOCK_INIT,
    *_SETTINGS,
    Flag(
        "data-path-port",
        UINT32,
        "Port number to use for data path traffic (1024 - 49151). If no value is set or is set to 0, the default "
        "port (4789) is used.",
        default=0,
    ),
    Flag("default-addr-pool", IP_NETS, "default address pool in CIDR format", shown="[]"),
    Flag(
        "default-addr-pool-mask-length",
        UINT32,
        "default address pool subnet mask length",
        default=24,
        shown="24",
    ),
    Flag("force-new-cluster", BOOL, "Force create a new cluster from current state"),
)


def check_availability(flags: Values) -> None:
    given = flags.text("availability")
    if given.lower() not in ("active", "pause", "drain"):
        raise CliError(f'invalid availability "{given}", only active, pause and drain are supported')


def apply_spec(spec: dict[str, Any], flags: Values) -> None:
    """Put the settings that were given into a swarm's spec."""

    def put(flag: str, section: str, key: str) -> None:
        if flags.changed(flag):
            spec.setdefault(section, {})[key] = flags[flag]

    put("task-history-limit", "Orchestration", "TaskHistoryRetentionLimit")
    put("dispatcher-heartbeat", "Dispatcher", "HeartbeatPeriod")
    put("cert-expiry", "CAConfig", "NodeCertExpiry")
    put("external-ca", "CAConfig", "ExternalCAs")
    put("max-snapshots", "Raft", "KeepOldSnapshots")
    put("snapshot-interval", "Raft", "SnapshotInterval")
    put("autolock", "EncryptionConfig", "AutoLockManagers")
