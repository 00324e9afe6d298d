"""`shoal swarm ca`: shows the root certificate, and rotates it."""

from __future__ import annotations

import hashlib
from typing import Any

from cli import clock
from cli.command import NONE, PROGRAM, Command, Session
from cli.errors import CliError
from cli.flags import Flag, Kind, Values
from cli.output.progress import Display, Progress
from cli.swarm import write_swarm
from cli.swarm_spec import CERT_EXPIRY, EXTERNAL_CA
from cli.values.basic import BOOL

_INTERVAL = 0.2


def _pem(text: str) -> str:
    try:
        with open(text, encoding="ascii") as file:
            content = file.read()
    except FileNotFoundError:
        raise ValueError(f"open {text}: no such file or directory") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{text} can't be read: {error}") from None
    if "-----BEGIN" not in content:
        raise ValueError("file contents must be in PEM format")
    return content


_PEM = Kind("pem-file", _pem)


def _ca(session: Session, flags: Values, _: list[str]) -> int:
    swarm = session.client.get("/swarm")
    if not flags.on("rotate"):
        for name in ("ca-cert", "ca-key", "cert-expiry", "external-ca"):
            if flags.changed(name):
                raise CliError(f"`--{name}` flag requires the `--rotate` flag to update the CA")
        return _show(session, swarm)
    if flags.changed("external-ca") and not flags.changed("ca-cert"):
        raise CliError(
            "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - "
            "to add an external CA with the current root CA certificate, use the `update` command instead"
        )
    if flags.changed("ca-key") and not flags.changed("ca-cert"):
        raise CliError(
            "the --ca-key flag requires that a --ca-cert flag and/or --external-ca flag be provided as well"
        )
    settings = swarm["Spec"].setdefault("CAConfig", {})
    if flags.changed("cert-expiry"):
        settings["NodeCertExpiry"] = flags["cert-expiry"]
    if flags.changed("external-ca"):
        settings["ExternalCAs"] = flags.every("external-ca")
    settings["SigningCACert"] = flags.text("ca-cert")
    settings["SigningCAKey"] = flags.text("ca-key")
    if not settings["SigningCACert"]:
        settings["ForceRotate"] = settings.get("ForceRotate", 0) + 1
    for key in ("SigningCACert", "SigningCAKey"):
        if not settings[key]:
            del settings[key]
    write_swarm(session, swarm)
    if flags.on("detach"):
        return 0
    display = Display(session.out, flags.on("quiet"))
    _watch(session, display)
    swarm = session.client.get("/swarm")
    if flags.on("quiet"):
        return 0
    _draw_digest(display, swarm)
    return _show(session, swarm)


def _show(session: Session, swarm: dict[str, Any]) -> int:
    root = (swarm.get("TLSInfo") or {}).get("TrustRoot", "")
    if not root:
        raise CliError("No CA information available")
    session.say(root.strip())
    return 0


def _watch(session: Session, display: Display) -> None:
    """Draw until every node has a certificate of the new root."""
    for line in ("desired root digest", "  rotated TLS certificates", "  rotated CA certificates"):
        display.show(Progress(line, " " if line.endswith("CA certificates") else ""))
    try:
        while _step(session, display):
            clock.pause(_INTERVAL)
    except KeyboardInterrupt:
        display.message("Operation continuing in background.")
        display.message(f"Use `{PROGRAM} swarm ca` to check progress.")


def _draw_digest(display: Display, swarm: dict[str, Any]) -> None:
    root = (swarm.get("TLSInfo") or {}).get("TrustRoot", "")
    display.show(Progress("desired root digest", f"sha256:{hashlib.sha256(root.encode()).hexdigest()}"))


def _step(session: Session, display: Display) -> bool:
    swarm = session.client.get("/swarm")
    wanted = swarm.get("TLSInfo") or {}
    _draw_digest(display, swarm)
    nodes = session.client.get("/nodes")
    infos = [(node.get("Description") or {}).get("TLSInfo") or {} for node in nodes]
    issued = sum(
        1
        for info in infos
        if info.get("CertIssuerPublicKey") == wanted.get("CertIssuerPublicKey")
        and info.get("CertIssuerSubject") == wanted.get("CertIssuerSubject")
    )
    trusted = sum(1 for info in infos if info == wanted)
    display.show(Progress("  rotated TLS certificates", f"{issued}/{len(nodes)} nodes", issued, len(nodes)))
    display.show(Progress("  rotated CA certificates", f"{trusted}/{len(nodes)} nodes", trusted, len(nodes)))
    return bool(swarm.get("RootRotationInProgress"))


CA = Command(
    "[OPTIONS]",
    "Display and rotate the root CA",
    _ca,
    (
        Flag("ca-cert", _PEM, "Path to the PEM-formatted root CA certificate to use for the new cluster"),
        Flag("ca-key", _PEM, "Path to the PEM-formatted root CA key to use for the new cluster"),
        CERT_EXPIRY,
        Flag(
            "detach", BOOL, "Exit immediately instead of waiting for the root rotation to converge", short="d"
        ),
        EXTERNAL_CA,
        Flag("quiet", BOOL, "Suppress progress output", short="q"),
        Flag(
            "rotate",
            BOOL,
            "Rotate the swarm CA - if no certificate or key are provided, new ones will be generated",
        ),
    ),
    NONE,
)
