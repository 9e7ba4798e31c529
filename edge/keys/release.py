"""The keys that releases are signed with: a folder of encrypted keys, and the chain of roots (TUF).

Of three root keys two must sign; the root says which keys sign what is offered (targets), what belongs
together (snapshot) and what is newest (timestamp). Devices pin the first root and follow the chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from edge.errors import BadInputError
from edge.files import write_durably
from edge.keys.new_folder import new_folder

__all__ = ["ROOT_LIFE", "ReleaseKeys", "to_bytes"]

ROOT_LIFE = timedelta(days=20 * 365)  # a cart that nobody reaches must not stop believing its root
ROLES = ("targets", "snapshot", "timestamp")
_HOLDER = "x-scanwright-key"  # in a root's key: the name of its file


class ReleaseKeys:
    """An existing folder. ``root`` is the newest root; ``PATH/root.json`` is the one that carts pin.

    A private key is PKCS 8, Ed25519. Those of the root may be kept elsewhere: they are needed for
    :meth:`rotate` alone, two of them.
    """

    def __init__(self, path: Path) -> None:
        """Open.

        Raises:
            BadInputError: it is no folder of release keys, or a root is damaged.
        """
        self.path = path
        if not (path / "root.json").is_file():
            raise BadInputError(
                f"{path}: no release keys here; make them with 'scanwright keys release init'"
            )
        try:
            self.roots = [Metadata[Root].from_bytes((path / name).read_bytes()) for name in self.chain()]
        except (OSError, RepositoryError) as error:
            raise BadInputError(f"{path}: a root cannot be read ({error})") from error

    @property
    def root(self) -> Metadata[Root]:
        """The newest root."""
        return self.roots[-1]

    def chain(self) -> list[str]:
        """Names of the roots, oldest first."""
        return [f"{number}.root.json" for number in range(1, 1 + len(list(self.path.glob("*.root.json"))))]

    @classmethod
    def create(cls, path: Path, passphrase: bytes | None, keys: int, threshold: int) -> ReleaseKeys:
        """Make the folder, complete or not at all.

        Raises:
            BadInputError: something is there already, or cannot be written; fewer keys than have to sign.
        """
        if not 1 <= threshold <= keys:
            raise BadInputError(f"--threshold {threshold}: {keys} keys cannot give so many signatures")
        with new_folder(path) as new:
            root = Root(expires=_now() + ROOT_LIFE, consistent_snapshot=True)
            made = [_make(new, f"root-{n}", passphrase) for n in range(1, keys + 1)]
            for signer in made:
                root.add_key(signer.public_key, Root.type)
            root.roles[Root.type].threshold = threshold
            for role in ROLES:
                root.add_key(_make(new, role, passphrase).public_key, role)
            data = to_bytes(_signed(root, made))
            write_durably(new / "1.root.json", data, 0o644)
            write_durably(new / "root.json", data, 0o644)
        return cls(path)

    def holders(self) -> list[tuple[str, str]]:
        """Role and name of each key in force."""
        said = self.root.signed
        return [(r, _holder(said.keys[k])) for r in (Root.type, *ROLES) for k in said.roles[r].keyids]

    def encrypted(self) -> bool:
        """Whether the keys in the folder need a passphrase."""
        return any(b"ENCRYPTED" in path.read_bytes() for path in self.path.glob("*.key"))

    def signers(
        self, role: str, passphrase: bytes | None, folders: Sequence[Path] = (), root: Root | None = None
    ) -> list[CryptoSigner]:
        """Signers of a role of a root (the newest), as far as their keys are in the folder or in ``folders``.

        Raises:
            BadInputError: fewer than have to sign, or a passphrase is wrong.
        """
        root = root or self.root.signed
        found = []
        for keyid in root.roles[role].keyids:
            key = root.keys[keyid]
            for folder in (self.path, *folders):
                private = _load(folder / f"{_holder(key)}.key", passphrase)
                public = private and private.public_key()
                if private and public and SSlibKey.from_crypto(public).keyid == keyid:
                    assert isinstance(key, SSlibKey)
                    found.append(CryptoSigner(private, key))
                    break
        if len(found) < root.roles[role].threshold:
            holders = sorted(_holder(root.keys[keyid]) for keyid in root.roles[role].keyids)
            if role != Root.type:
                raise BadInputError(
                    f"{self.path}: {holders[0]}.key, which must sign, is not here; put it back, or if it is"
                    f" lost: scanwright keys release rotate {holders[0]}"
                )
            raise BadInputError(
                f"{self.path}: {root.roles[role].threshold} of the keys {', '.join(holders)} must sign,"
                f" {len(found)} are here; name the folders of the others by --with"
            )
        return found

    def rotate(self, name: str, passphrase: bytes | None, folders: Sequence[Path]) -> Path:
        """Put a new key in place of one that was lost or stolen, and sign a root that says so; the root.

        Raises:
            BadInputError: there is no such key, or too few root keys are here.
        """
        before = self.root.signed
        known = {holder: role for role, holder in self.holders()}
        if name not in known:
            raise BadInputError(f"'{name}' is no key; there are: {', '.join(known)}")
        role = known[name]
        old = self.signers(Root.type, passphrase, folders)
        number = before.version + 1
        after = Metadata[Root].from_bytes(to_bytes(self.root)).signed
        after.version, after.expires = number, _now() + ROOT_LIFE
        (keyid,) = [k for k in after.roles[role].keyids if _holder(after.keys[k]) == name]
        after.revoke_key(keyid, role)
        made = _generate(name)
        after.add_key(made.public_key, role)
        remaining = [s for s in old if s.public_key.keyid in after.roles[Root.type].keyids]
        signing = {s.public_key.keyid: s for s in [*old, *remaining, *([made] if role == Root.type else [])]}
        signed = _signed(after, signing.values())
        try:
            for root in (before, after):  # the old root's rule and the new one's
                root.verify_delegate(Root.type, signed.signed_bytes, signed.signatures)
        except RepositoryError as error:
            raise BadInputError(
                f"{self.path}: too few root keys are here; add their folders by --with"
            ) from error
        # The key comes first: a root that names a key nobody has would end all publishing.
        private = self.path / f"{name}.key"
        if private.exists():
            private.rename(private.with_name(f"{name}.key.until-{number}"))
        write_durably(private, _private_bytes(made, passphrase))
        path = self.path / f"{number}.root.json"
        write_durably(path, to_bytes(signed), 0o644)
        self.roots.append(signed)
        return path


def to_bytes(metadata: Metadata[Root]) -> bytes:
    """The file."""
    return metadata.to_bytes()


def _signed(root: Root, signers: Iterable[CryptoSigner]) -> Metadata[Root]:
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata


def _generate(name: str) -> CryptoSigner:
    private = Ed25519PrivateKey.generate()
    public = SSlibKey.from_crypto(private.public_key())
    public.unrecognized_fields[_HOLDER] = name
    return CryptoSigner(private, public)


def _make(folder: Path, name: str, passphrase: bytes | None) -> CryptoSigner:
    signer = _generate(name)
    write_durably(folder / f"{name}.key", _private_bytes(signer, passphrase))
    return signer


def _private_bytes(signer: CryptoSigner, passphrase: bytes | None) -> bytes:
    private = serialization.load_pem_private_key(signer.private_bytes, None)
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _load(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey | None:
    """The key of a file; None if there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        private = serialization.load_pem_private_key(data, passphrase if b"ENCRYPTED" in data else None)
    except (ValueError, TypeError) as error:
        raise BadInputError(
            f"{path}: cannot be read; the passphrase is wrong, or the file damaged"
        ) from error
    return private if isinstance(private, Ed25519PrivateKey) else None


def _holder(key: Key) -> str:
    return str(key.unrecognized_fields.get(_HOLDER, key.keyid[:12]))


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
