"""X.509 of a site (RFC 5280): its authority, what that issues, and what it takes back. No files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.errors import BadInputError

__all__ = ["Authority", "Credential", "Use", "check_revocations"]

Use = Literal["server", "client"]

_CA_LIFE = timedelta(days=20 * 365)
# A cart or gateway whose clock is a little behind must not find the site's first certificates in its future.
_BACKDATED = timedelta(days=1)
_PURPOSE = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
_SIGNING = {"key_cert_sign": True, "crl_sign": True}
_HANDSHAKE = {"digital_signature": True}


@dataclass(frozen=True)
class Credential:
    """A certificate with its private key, both PEM; the key is not encrypted unless it is the authority's."""

    certificate: bytes
    key: bytes
    serial: int
    expires: datetime


class Authority:
    """A site's certificate authority: EC P-256, path length 0, 20 years.

    Everything it issues is valid from the day that the authority itself was made, so that a device whose
    clock has stood still since then sees no certificate of the future; validity ends when it is said to.
    """

    def __init__(self, certificate: bytes, key: bytes, passphrase: bytes | None) -> None:
        """Of PEM files.

        Raises:
            BadInputError: one is damaged, they do not belong together, or the passphrase is wrong.
        """
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, passphrase)
        except (ValueError, TypeError) as error:
            raise BadInputError(
                "ca.key: cannot be read; the passphrase is wrong or missing, or the file is damaged"
            ) from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or (
            private.public_key() != self._certificate.public_key()
        ):
            raise BadInputError("ca.key: does not belong to ca.pem; take both from the same backup")
        self._key = private

    @classmethod
    def create(cls, site: str, now: datetime, passphrase: bytes | None) -> Credential:
        """A new authority; its key is encrypted if there is a passphrase."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(site, "scanwright site authority")
        start = now - _BACKDATED
        certificate = (
            _builder(name, name, key, start, start + _CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(**_SIGNING), critical=True)
            .sign(key, hashes.SHA256())
        )
        return _credential(certificate, key, passphrase)

    @property
    def expires(self) -> datetime:
        """When the authority, and with it everything it issued, ends."""
        return self._certificate.not_valid_after_utc

    def issue(self, site: str, name: str, use: Use, hosts: Sequence[str], until: datetime) -> Credential:
        """A certificate for ``name`` with a new key; ``hosts`` are a server's DNS names and addresses.

        Raises:
            BadInputError: it would outlive the authority.
        """
        if until > self.expires:
            raise BadInputError(
                f"the site's authority ends on {self.expires:%Y-%m-%d}; take fewer days, or make a new site"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(
                _name(site, name),
                self._certificate.subject,
                key,
                self._certificate.not_valid_before_utc,
                until,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(**_HANDSHAKE), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_PURPOSE[use]]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(_host, hosts)), critical=False)
        return _credential(builder.sign(self._key, hashes.SHA256()), key, None)

    def revocations(self, serials: Iterable[int], now: datetime, previous: bytes | None) -> bytes:
        """A CRL, PEM, that takes back ``serials``; newer than ``previous``, and good for as long as the CA.

        A list that ran out would shut every device out of a site that nobody reaches to renew it.
        """
        updated = now - _BACKDATED
        number = 1
        if previous is not None:
            last = x509.load_pem_x509_crl(previous)
            updated = max(updated, last.last_update_utc + timedelta(seconds=1))
            number = _number(last) + 1
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(updated)
            .next_update(self.expires)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(updated).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def check_revocations(new: bytes, installed: bytes | None, ca: bytes) -> int | None:
    """How many certificates a carried CRL (PEM) takes back; None if it is the ``installed`` one again.

    It needs no trust in who carries it: the authority ``ca`` has signed it, and its number (RFC 5280, 5.2.3)
    only grows.

    Raises:
        BadInputError: it is damaged, not of this authority, or older than the installed one.
    """
    try:
        authority = x509.load_pem_x509_certificate(ca)
        found = x509.load_pem_x509_crl(new)
        number = _number(found)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise BadInputError("no revocation list, or a damaged one") from error
    key = authority.public_key()
    if (
        not isinstance(key, ec.EllipticCurvePublicKey)
        or found.issuer != authority.subject
        or not found.is_signature_valid(key)
    ):
        raise BadInputError("not signed by this site's authority")
    if installed is not None:
        known = _number(x509.load_pem_x509_crl(installed))
        if number < known:
            raise BadInputError(
                f"number {number}, but number {known} is in use: an older list would let carts in again"
            )
        if number == known:
            return None
    return len(found)


def _number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(site: str, name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, site),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    uses = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**uses | allowed)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _credential(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, passphrase: bytes | None
) -> Credential:
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return Credential(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
        serial=certificate.serial_number,
        expires=certificate.not_valid_after_utc.astimezone(timezone.utc),
    )
