"""Keys and certificates of a swarm: the root CA, node certificates, and the join CAs that stand for join tokens.

A node's certificate says who it is: CN node id, OU role, O cluster id. A renewal certificate says the same of the same key,
does not expire, and is good for nothing but a new certificate (decision 0016). A join CA is derived from a join token's secret
by both sides: whoever can issue under it holds the token, and the secret itself is never sent. `classify` tells what
a presented certificate is worth. Managers and agents use this module; times are parameters (aware datetimes in UTC).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common import errors
from common.model import NodeRole

ROOT_NAME: Final = "swarm-ca"
ROOT_LIFE: Final = dt.timedelta(seconds=630_720_000)
BACKDATE: Final = dt.timedelta(hours=1)
DEFAULT_EXPIRY: Final = dt.timedelta(hours=2160)
MINIMUM_EXPIRY: Final = dt.timedelta(hours=1)
ROLE_NAMES: Final[Mapping[NodeRole, str]] = {
    NodeRole.MANAGER: "swarm-manager",
    NodeRole.WORKER: "swarm-worker",
}
JOIN_NAMES: Final[Mapping[NodeRole, str]] = {
    NodeRole.MANAGER: "swarm-join-manager",
    NodeRole.WORKER: "swarm-join-worker",
}
RENEWAL_NAME: Final = "swarm-renewal"
SERVER_NAME: Final = ROLE_NAMES[NodeRole.MANAGER]
"""What a client asks of a manager's certificate, whatever address it dialled."""
# A join CA exists as long as its token; its dates say nothing.
_LONG_AGO: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_FAR: Final = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
# Order of the group of P-256 (SEC 2).
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_USAGES: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can issue."""

    cert: bytes  # PEM
    key: bytes = field(repr=False)  # PEM


@dataclass(frozen=True, slots=True)
class Peer:
    """What a presented certificate is worth. A joiner holds a join token and nothing else."""

    node_id: str = ""
    cluster_id: str = ""
    role: NodeRole | None = None  # of a node, as its certificate has it; the store decides
    join_role: NodeRole | None = None  # of a joiner
    renewal: int = 0  # number of a renewal certificate; from 1


def new_key() -> Key:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """The key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> Key:
    """The P-256 key in `pem`; raises ValueError for anything else."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")
    return key


def _name(common: str, unit: str = "", organisation: str = "") -> x509.Name:
    parts = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return _named((*parts, (NameOID.COMMON_NAME, common)))


def _named(parts: Iterable[tuple[x509.ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _self_signed(key: Key, name: x509.Name, start: dt.datetime, end: dt.datetime, serial: int) -> bytes:
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(made)


def create_root(now: dt.datetime) -> Authority:
    """A new swarm's root CA."""
    key = new_key()
    cert = _self_signed(key, _name(ROOT_NAME), now - BACKDATE, now + ROOT_LIFE, x509.random_serial_number())
    return Authority(cert, key_pem(key))


def create_csr(key: Key) -> bytes:
    """A request for a node certificate (PEM); the manager decides every name in it."""
    return _csr(key).public_bytes(serialization.Encoding.PEM)


def _csr(key: Key) -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())


def _issue(
    authority: Authority, public: ec.EllipticCurvePublicKey, subject: x509.Name,
    names: Iterable[str], start: dt.datetime, end: dt.datetime, usages: Iterable[x509.ObjectIdentifier] = _USAGES,
) -> bytes:  # fmt: skip
    issuer, issuer_key = x509.load_pem_x509_certificate(authority.cert), load_key(authority.key)
    made = (
        x509.CertificateBuilder(issuer.subject, subject, public, x509.random_serial_number(), start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _pem(made)


def csr_key(csr: bytes) -> ec.EllipticCurvePublicKey:
    """The public key in a request, whose owner signed it; raises errors.InvalidArgument."""
    try:
        request = x509.load_pem_x509_csr(csr)
        key = request.public_key()
        sound = request.is_signature_valid
    except (ValueError, TypeError, x509.UnsupportedGeneralNameType) as exc:
        raise errors.InvalidArgument("the certificate request cannot be read") from exc
    if not sound or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise errors.InvalidArgument("the certificate request is not signed by an ECDSA P-256 key")
    return key


def issue_node(
    root: Authority, csr: bytes, node_id: str, role: NodeRole, cluster_id: str,
    now: dt.datetime, expiry: dt.timedelta = DEFAULT_EXPIRY,
) -> bytes:  # fmt: skip
    """A node's certificate for the key in `csr`: the leaf's PEM followed by the root's."""
    subject = _name(node_id, ROLE_NAMES[role], cluster_id)
    names = (ROLE_NAMES[role], node_id)
    leaf = _issue(root, csr_key(csr), subject, names, now - BACKDATE, now + expiry)
    return leaf + root.cert


def issue_renewal(root: Authority, csr: bytes, node_id: str, cluster_id: str, number: int) -> bytes:
    """The renewal certificate (chain, PEM) that goes with the node's certificate of this number. It lives as long as
    the root: whether it counts, the store says."""
    issuer = x509.load_pem_x509_certificate(root.cert)
    parts = (
        (NameOID.ORGANIZATION_NAME, cluster_id),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, RENEWAL_NAME),
        (NameOID.COMMON_NAME, node_id),
        (NameOID.SERIAL_NUMBER, str(number)),
    )
    life = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    client = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    return _issue(root, csr_key(csr), _named(parts), (RENEWAL_NAME,), *life, client) + root.cert


def _digest(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not an elliptic curve key")
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return digest.finalize()


def public_key_digest(csr: bytes) -> bytes:
    """SHA-256 of the public key in a request."""
    return _digest(csr_key(csr))


def certificate_key_digest(chain: bytes) -> bytes:
    """SHA-256 of the public key in the first certificate of a chain; raises ValueError."""
    return _digest(x509.load_pem_x509_certificates(chain)[0].public_key())


def belongs(key: bytes, chain: bytes) -> bool:
    """Whether a private key (PEM) is that of the first certificate of a chain; raises ValueError."""
    return _digest(load_key(key).public_key()) == certificate_key_digest(chain)


# ---- join CAs


def join_authority(secret: bytes, role: NodeRole, digest: str) -> Authority:
    """The CA that holders of a join token can issue under. The same key on both sides, for one root and one role."""
    material = HKDF(hashes.SHA256(), 48, bytes.fromhex(digest), b"join CA " + JOIN_NAMES[role].encode())
    scalar = int.from_bytes(material.derive(secret), "big") % (_ORDER - 1) + 1
    key = ec.derive_private_key(scalar, ec.SECP256R1())
    return Authority(
        _self_signed(key, _name(JOIN_NAMES[role], organisation=digest), _LONG_AGO, _FAR, 1), key_pem(key)
    )


def issue_joiner(authority: Authority, key: Key) -> bytes:
    """A joiner's own certificate under a join CA."""
    return _issue(authority, key.public_key(), _name("joiner"), ("joiner",), _LONG_AGO, _FAR)


def classify(leaf: bytes, root: bytes, join_authorities: Mapping[NodeRole, bytes]) -> Peer | None:
    """What the certificate `leaf` is worth here (all PEM); None for nothing.

    Only a certificate that one of ours has signed itself counts: a holder of a join token could issue certificates
    with any subject, or another CA, below the join CA. Dates are the handshake's business.
    """
    try:
        certificate = x509.load_pem_x509_certificate(leaf)
        if _signed_by(certificate, root):
            return _node(certificate)
        for role, authority in join_authorities.items():
            if _signed_by(certificate, authority):
                return Peer(join_role=role)
    except ValueError:
        return None
    return None


def _signed_by(certificate: x509.Certificate, issuer: bytes) -> bool:
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(issuer))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _node(certificate: x509.Certificate) -> Peer | None:
    node_id, unit, cluster_id = (
        _only(certificate, oid)
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
    )
    roles = [role for role, name in ROLE_NAMES.items() if name == unit]
    if unit == RENEWAL_NAME and node_id and cluster_id:
        number = _only(certificate, NameOID.SERIAL_NUMBER)
        return Peer(node_id, cluster_id, renewal=int(number)) if number.isdecimal() and int(number) else None
    if not node_id or not cluster_id or not roles:
        return None
    return Peer(node_id, cluster_id, roles[0])


def _only(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(oid)
    return str(found[0].value) if len(found) == 1 else ""


# ---- reading certificates


def split_chain(pem: bytes) -> list[bytes]:
    """The certificates of a PEM chain, each as PEM; raises ValueError when there are none."""
    return [_pem(c) for c in x509.load_pem_x509_certificates(pem)]


def leaf_identity(chain: bytes) -> tuple[str, str, NodeRole]:
    """Node id, cluster id and role of the first certificate; raises ValueError for one that is no node's."""
    peer = _node(x509.load_pem_x509_certificates(chain)[0])
    if peer is None or peer.role is None:
        raise ValueError("not a node's certificate")
    return peer.node_id, peer.cluster_id, peer.role


def validity(chain: bytes) -> tuple[dt.datetime, dt.datetime]:
    """From when to when the first certificate of a chain is valid."""
    leaf = x509.load_pem_x509_certificates(chain)[0]
    return leaf.not_valid_before_utc, leaf.not_valid_after_utc


def renewal_number(leaf: bytes) -> int:
    """The number of a renewal certificate; 0 for any other."""
    peer = _node(x509.load_pem_x509_certificate(leaf))
    return peer.renewal if peer else 0


def renewal_moment(chain: bytes, share: float) -> dt.datetime:
    """When `share` of the life of the first certificate has passed, counted from when it was issued."""
    start, end = validity(chain)
    start = min(start + BACKDATE, end)
    return start + (end - start) * share


def usable(chain: bytes, now: dt.datetime) -> bool:
    """Whether the first certificate of a chain is valid at that time."""
    start, end = validity(chain)
    return start <= now < end


def tls_info(root: bytes) -> tuple[str, bytes, bytes]:
    """What the API shows of the trust root: PEM, subject (DER), public key (DER)."""
    certificate = x509.load_pem_x509_certificate(root)
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return root.decode(), certificate.subject.public_bytes(), key
