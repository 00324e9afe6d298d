"""Certificates: what is issued, and what a presented one is worth."""

import datetime as dt
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from common import errors, pki, tokens
from common.model import NodeRole

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
ROOT = pki.create_root(NOW)
DIGEST = tokens.root_digest(ROOT.cert)
SECRET = bytes(range(16))
JOINS = {role: pki.join_authority(SECRET, role, DIGEST).cert for role in NodeRole}


def leaf(chain: bytes) -> bytes:
    return pki.split_chain(chain)[0]


def node(role: NodeRole = NodeRole.WORKER, root: pki.Authority = ROOT) -> bytes:
    return pki.issue_node(root, pki.create_csr(pki.new_key()), "nodeid", role, "cluster", NOW)


def test_the_root() -> None:
    cert = x509.load_pem_x509_certificate(ROOT.cert)
    assert cert.subject.rfc4514_string() == "CN=swarm-ca"
    assert isinstance(cert.public_key(), ec.EllipticCurvePublicKey)
    assert cert.not_valid_after_utc - NOW == dt.timedelta(seconds=630_720_000)
    assert cert.not_valid_before_utc == NOW - dt.timedelta(hours=1)


@pytest.mark.parametrize("role", list(NodeRole))
def test_a_node_certificate(role: NodeRole) -> None:
    chain = node(role)
    first, last = pki.split_chain(chain)
    assert last == ROOT.cert
    cert = x509.load_pem_x509_certificate(first)
    unit = pki.ROLE_NAMES[role]
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [unit, "nodeid"]
    assert cert.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "cluster"
    assert pki.leaf_identity(chain) == ("nodeid", "cluster", role)
    assert pki.validity(chain) == (NOW - dt.timedelta(hours=1), NOW + dt.timedelta(days=90))
    verifier = PolicyBuilder().store(Store([x509.load_pem_x509_certificate(last)])).time(NOW)
    verifier.build_server_verifier(x509.DNSName("nodeid")).verify(cert, [])


def test_expiry_is_a_parameter() -> None:
    csr = pki.create_csr(pki.new_key())
    chain = pki.issue_node(ROOT, csr, "n", NodeRole.WORKER, "c", NOW, dt.timedelta(hours=5))
    assert pki.validity(chain)[1] == NOW + dt.timedelta(hours=5)


@pytest.mark.parametrize("role", list(NodeRole))
def test_both_sides_derive_the_same_join_key(role: NodeRole) -> None:
    one, other = (pki.join_authority(SECRET, role, DIGEST) for _ in range(2))
    assert one.key == other.key
    keys = {pki.join_authority(SECRET, r, DIGEST).key for r in NodeRole}
    keys |= {pki.join_authority(os.urandom(16), role, DIGEST).key}
    keys |= {pki.join_authority(SECRET, role, "00" * 32).key}
    assert len(keys) == 4


def test_what_certificates_are_worth() -> None:
    own = pki.classify(leaf(node(NodeRole.MANAGER)), ROOT.cert, JOINS)
    assert own == pki.Peer("nodeid", "cluster", NodeRole.MANAGER)
    for role in NodeRole:
        joiner = pki.issue_joiner(pki.join_authority(SECRET, role, DIGEST), pki.new_key())
        assert pki.classify(joiner, ROOT.cert, JOINS) == pki.Peer(join_role=role)
    stranger = pki.create_root(NOW)
    assert pki.classify(leaf(node(root=stranger)), ROOT.cert, JOINS) is None
    assert pki.classify(stranger.cert, ROOT.cert, JOINS) is None
    other = pki.issue_joiner(pki.join_authority(os.urandom(16), NodeRole.WORKER, DIGEST), pki.new_key())
    assert pki.classify(other, ROOT.cert, JOINS) is None
    assert pki.classify(b"nonsense", ROOT.cert, JOINS) is None
    assert pki.classify(ROOT.cert, ROOT.cert, JOINS) is None


def test_a_joiner_that_calls_itself_a_manager_stays_a_joiner() -> None:
    """The holder of a token can issue anything under its join CA."""
    authority = pki.join_authority(SECRET, NodeRole.WORKER, DIGEST)
    forged = pki.issue_node(
        authority, pki.create_csr(pki.new_key()), "nodeid", NodeRole.MANAGER, "cluster", NOW
    )
    assert pki.classify(leaf(forged), ROOT.cert, JOINS) == pki.Peer(join_role=NodeRole.WORKER)


def test_what_stands_below_a_forged_intermediate_is_worth_nothing() -> None:
    """A CA named like the swarm's, issued under a join CA or by a node's own key."""
    join = pki.join_authority(SECRET, NodeRole.WORKER, DIGEST)
    node_key = pki.new_key()
    node_cert = pki.issue_node(ROOT, pki.create_csr(node_key), "nodeid", NodeRole.WORKER, "cluster", NOW)
    for issuer in (join, pki.Authority(leaf(node_cert), pki.key_pem(node_key))):
        middle_key = pki.new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, pki.ROOT_NAME)])
        middle = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(x509.load_pem_x509_certificate(issuer.cert).subject)
            .public_key(middle_key.public_key())
            .serial_number(7)
            .not_valid_before(NOW)
            .not_valid_after(NOW + dt.timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(pki.load_key(issuer.key), hashes.SHA256())
        )
        pem = middle.public_bytes(pki.serialization.Encoding.PEM)
        below = node(NodeRole.MANAGER, pki.Authority(pem, pki.key_pem(middle_key)))
        assert pki.classify(leaf(below), ROOT.cert, JOINS) is None


def test_requests_are_checked() -> None:
    with pytest.raises(errors.InvalidArgument, match="cannot be read"):
        pki.csr_key(b"nonsense")
    weak = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(weak, hashes.SHA256())
    with pytest.raises(errors.InvalidArgument, match="P-256"):
        pki.csr_key(request.public_bytes(pki.serialization.Encoding.PEM))
    curve = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(errors.InvalidArgument, match="P-256"):
        pki.csr_key(pki.create_csr(curve))
    key = pki.new_key()
    assert pki.public_key_digest(pki.create_csr(key)) == pki.public_key_digest(pki.create_csr(key))


def test_keys_come_back() -> None:
    key = pki.new_key()
    assert pki.key_pem(pki.load_key(pki.key_pem(key))) == pki.key_pem(key)


def test_no_key_in_reprs() -> None:
    assert "PRIVATE" not in repr(ROOT)


def test_tls_info() -> None:
    root, subject, key = pki.tls_info(ROOT.cert)
    assert root.encode() == ROOT.cert
    assert b"swarm-ca" in subject
    assert len(key) == 91


def test_a_leaf_that_is_no_nodes() -> None:
    joiner = pki.issue_joiner(pki.join_authority(SECRET, NodeRole.WORKER, DIGEST), pki.new_key())
    with pytest.raises(ValueError, match="not a node's"):
        pki.leaf_identity(joiner)


def test_a_renewal_certificate_is_no_nodes() -> None:
    key = pki.new_key()
    chain = pki.issue_renewal(ROOT, pki.create_csr(key), "nodeid", "cluster", 7)
    assert pki.classify(leaf(chain), ROOT.cert, JOINS) == pki.Peer("nodeid", "cluster", renewal=7)
    assert pki.renewal_number(leaf(chain)) == 7
    assert pki.renewal_number(leaf(node())) == 0
    with pytest.raises(ValueError, match="not a node's"):
        pki.leaf_identity(chain)
    assert pki.validity(chain) == pki.validity(ROOT.cert)
    assert pki.belongs(pki.key_pem(key), chain)
    assert not pki.belongs(pki.key_pem(pki.new_key()), chain)
    assert pki.certificate_key_digest(chain) == pki.public_key_digest(pki.create_csr(key))
    for forger in (pki.create_root(NOW), pki.join_authority(SECRET, NodeRole.WORKER, DIGEST)):
        forged = pki.issue_renewal(forger, pki.create_csr(key), "nodeid", "cluster", 7)
        found = pki.classify(leaf(forged), ROOT.cert, JOINS)
        assert found is None or found == pki.Peer(join_role=NodeRole.WORKER)
    for number in (0, -1):
        nothing = pki.issue_renewal(ROOT, pki.create_csr(key), "nodeid", "cluster", number)
        assert pki.classify(leaf(nothing), ROOT.cert, JOINS) is None


def test_what_a_moment_and_a_life_are() -> None:
    day = dt.timedelta(days=1)
    chain = pki.issue_node(ROOT, pki.create_csr(pki.new_key()), "n", NodeRole.WORKER, "c", NOW, 10 * day)
    start = NOW.replace(microsecond=0)
    assert pki.renewal_moment(chain, 0.5) == start + 5 * day
    assert pki.usable(chain, NOW)
    assert pki.usable(chain, NOW - pki.BACKDATE / 2)
    assert not pki.usable(chain, NOW - 2 * pki.BACKDATE)
    assert not pki.usable(chain, NOW + 10 * day)
