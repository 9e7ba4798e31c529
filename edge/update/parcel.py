"""A parcel: what a cart has to say, sealed to headquarters (age, X25519) and signed by the cart.

Inside is a text of JSON lines: the head, one line for each message, and the end with the signature. The
signature is ECDSA with SHA-256 (FIPS 186-5) over all lines before it, by the key of the certificate in the
head, which the site's authority has issued to that cart: sealing alone tells nobody who sealed.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Literal, TypeVar

import pyrage
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID
from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from edge.errors import BadInputError, ScanwrightError
from edge.schema import Contract, Name
from edge.update.courier import Id

__all__ = [
    "LARGEST",
    "Head",
    "Item",
    "Opened",
    "ParcelError",
    "Signer",
    "check_recipient",
    "new_token",
    "open_parcel",
    "seal",
    "write_items",
]

LARGEST = 512 << 20
"""Bytes that a parcel may have."""

_LONGEST_LINE = 16 << 20
Kind = Literal["finding", "event", "overlay", "birth", "health", "audit"]


class ParcelError(ScanwrightError):
    """A parcel is not taken; nothing of it was. ``code`` says why, for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Head(Contract):
    """The first line. ``token`` (32 bytes, hexadecimal) is what a receipt is proven with."""

    schema_version: Literal[1] = 1
    site: Name
    device: Name
    id: Id
    number: Annotated[int, Field(ge=1)] = Field(description="grows with each parcel of a cart")
    made: AwareDatetime
    clock_trusted: bool
    token: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    certificate: Annotated[str, Field(max_length=10_000)] = Field(description="the cart's, PEM")


class Item(Contract):
    """One message: its payload as on the topic of its kind (base64). ``id`` is the outbox's; ``name`` the
    finding of an overlay. Of kind ``audit`` it is an entry of the audit log."""

    kind: Kind
    id: Annotated[str, Field(max_length=80)] = ""
    name: Annotated[str, Field(max_length=64)] = ""
    payload: str

    @classmethod
    def of(cls, kind: Kind, payload: bytes, id_: str = "", name: str = "") -> Item:
        """Of a payload's bytes."""
        return cls(kind=kind, id=id_, name=name, payload=base64.b64encode(payload).decode("ascii"))

    def data(self) -> bytes:
        """The payload's bytes.

        Raises:
            ParcelError: it is no base64.
        """
        try:
            return base64.b64decode(self.payload, validate=True)
        except ValueError as error:
            raise ParcelError("damaged", "a message in it is damaged") from error


class _End(Contract):
    items: Annotated[int, Field(ge=0)]
    signature: str


class Signer:
    """A cart's key and certificate. ``certificate`` is PEM text."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Of PEM files.

        Raises:
            BadInputError: one is damaged, or the key is not of an elliptic curve.
        """
        try:
            x509.load_pem_x509_certificate(certificate)
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            raise BadInputError("mqtt.tls: certificate or key cannot be read") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise BadInputError(
                "mqtt.tls: the courier needs a key of an elliptic curve, as 'keys device' makes"
            )
        self.certificate, self._key = certificate.decode("ascii"), private

    def sign(self, digest: bytes) -> str:
        """The signature of a SHA-256 digest, base64."""
        made = self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        return base64.b64encode(made).decode("ascii")


def check_recipient(text: str) -> str:
    """Headquarters' public key, from the text of its file.

    Raises:
        BadInputError: it is none.
    """
    found = text.strip()
    try:
        pyrage.x25519.Recipient.from_str(found)
    except pyrage.RecipientError as error:
        raise BadInputError("no public key of a headquarters, which begins with 'age1'") from error
    return found


def write_items(target: BinaryIO, head: Head, items: Iterable[Item], signer: Signer) -> int:
    """Write the text of a parcel; how many messages it has.

    Raises:
        OSError: there is no room for it.
    """
    digest, count = hashlib.sha256(), 0

    def put(line: Contract) -> None:
        data = line.model_dump_json().encode() + b"\n"
        digest.update(data)
        target.write(data)

    put(head)
    for item in items:
        put(item)
        count += 1
    target.write(_End(items=count, signature=signer.sign(digest.digest())).model_dump_json().encode() + b"\n")
    return count


def seal(plain: BinaryIO, target: BinaryIO, recipient: str) -> None:
    """Encrypt a stream to headquarters (age-encryption.org/v1).

    Raises:
        OSError: there is no room for it.
    """
    try:
        pyrage.encrypt_io(plain, target, [pyrage.x25519.Recipient.from_str(recipient)])
    except pyrage.EncryptError as error:
        raise OSError(str(error)) from error


@dataclass(frozen=True)
class Opened:
    """A parcel that was found to be whole and its cart's. ``expired``: its certificate has ended."""

    head: Head
    expired: bool
    _text: BinaryIO

    def items(self) -> Iterator[Item]:
        """The messages, one after the other.

        Raises:
            ParcelError: one is none.
        """
        self._text.seek(0)
        lines = _lines(self._text)
        next(lines)
        previous = next(lines)
        for line in lines:
            yield _parsed(previous, Item)
            previous = line


def open_parcel(
    sealed: BinaryIO, text: BinaryIO, identity: str, authorities: Iterable[bytes], revoked: Iterable[bytes]
) -> Opened:
    """Decrypt a parcel into ``text`` (an empty file) and check all of it.

    Args:
        sealed: the parcel.
        text: an empty file that can be read and written.
        identity: headquarters' secret key, as its file says.
        authorities: certificates (PEM) of the sites' authorities.
        revoked: revocation lists (PEM) of these.

    Raises:
        BadInputError: the identity, an authority or a list is none.
        ParcelError: it is sealed to somebody else, damaged, cut off, or not signed by the cart it names.
    """
    try:
        known_authorities = [x509.load_pem_x509_certificate(one) for one in authorities]
        lists = [x509.load_pem_x509_crl(one) for one in revoked]
    except ValueError as error:
        raise BadInputError("an authority's certificate or revocation list is none") from error
    try:
        known = pyrage.x25519.Identity.from_str(identity.strip())
    except pyrage.IdentityError as error:
        raise BadInputError(
            "no secret key of a headquarters, which begins with 'AGE-SECRET-KEY-1'"
        ) from error
    try:
        pyrage.decrypt_io(sealed, _Bounded(text), [known])
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise ParcelError("other_key", "sealed to another headquarters' key") from error
        raise ParcelError("damaged", "damaged, or cut off") from error
    except (OSError, ValueError) as error:
        raise ParcelError("damaged", "damaged, or cut off") from error
    head, expired = _check(text, known_authorities, lists)
    return Opened(head, expired, text)


class _Bounded:
    """Takes so much and no more."""

    def __init__(self, target: BinaryIO) -> None:
        self._target, self._left = target, LARGEST

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise OSError("too large")
        return self._target.write(data)

    def flush(self) -> None:
        self._target.flush()


def _check(
    text: BinaryIO, authorities: list[x509.Certificate], revoked: list[x509.CertificateRevocationList]
) -> tuple[Head, bool]:
    text.seek(0)
    digest, count, head, previous = hashlib.sha256(), -2, None, b""
    for line in _lines(text):
        digest.update(previous)
        head = head or _parsed(line, Head)
        previous, count = line, count + 1
    if head is None or count < 0:
        raise ParcelError("damaged", "empty, or cut off")
    end = _parsed(previous, _End)
    try:
        certificate = x509.load_pem_x509_certificate(head.certificate.encode())
        signature = base64.b64decode(end.signature, validate=True)
    except ValueError as error:
        raise ParcelError("damaged", "its certificate or signature is damaged") from error
    who = f"{head.site}/{head.device}"
    # First: of what an authority of ours did not issue, nothing can be relied on.
    # And of its own site's: whoever has one site's authority must not speak for another's carts.
    if not any(_issued(certificate, one) and _names(one)[0] == _names(certificate)[0] for one in authorities):
        raise ParcelError("other_site", f"{who}: its certificate is of no authority that was given")
    key = certificate.public_key()
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey) or end.items != count:
            raise InvalidSignature
        key.verify(signature, digest.digest(), ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature as error:
        raise ParcelError("forged", "not signed by the certificate in it") from error
    if _names(certificate) != (head.site, head.device):
        raise ParcelError("forged", f"says that it is of {who}, but its certificate is another's")
    for crl in revoked:
        if crl.issuer == certificate.issuer and crl.get_revoked_certificate_by_serial_number(
            certificate.serial_number
        ):
            raise ParcelError("revoked", f"{who}: its certificate was taken back")
    return head, certificate.not_valid_after_utc < head.made


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _names(certificate: x509.Certificate) -> tuple[object, object]:
    subject = certificate.subject
    organization = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return (organization[0].value if organization else None, common[0].value if common else None)


def _lines(text: BinaryIO) -> Iterator[bytes]:
    while line := text.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE or not line.endswith(b"\n"):
            raise ParcelError("damaged", "cut off, or a line in it is too long")
        yield line


_Model = TypeVar("_Model", bound=Contract)


def _parsed(line: bytes, model: type[_Model]) -> _Model:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise ParcelError("damaged", "a line in it is not what it should be") from error


def new_token() -> bytes:
    """A parcel's token: 32 random bytes."""
    return os.urandom(32)
