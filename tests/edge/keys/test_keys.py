from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.cli import main
from edge.errors import BadInputError
from edge.keys import folder as keys_folder
from edge.keys.cli import PASSPHRASE
from edge.keys.folder import KeyFolder
from edge.schema import read
from edge.site import Site

SITE = {
    "site": "clinic",
    "broker": {"host": "broker.clinic.example", "port": 8884},
    "gateway_address": "192.168.77.2",
    "carts": [{"device": name, "target": "raspberry-pi-5"} for name in ("cart-1", "cart-2")],
}


@pytest.fixture
def scanwright(capsys, tmp_path, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """The command line in a folder with a SITE.yaml, and no terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PASSPHRASE, raising=False)
    (tmp_path / "SITE.yaml").write_text(yaml.safe_dump(SITE))

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(["keys", *arguments])
        said = capsys.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    return run


def certificate(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def crl() -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(Path("keys/crl.pem").read_bytes())


def test_a_site_gets_an_authority_a_broker_and_headquarters(scanwright):
    code, out, err = scanwright("init", "SITE.yaml", "--out", "keys")
    assert code == 0 and "keys/broker" in out and "not encrypted" in err
    ca = certificate("keys/ca.pem")
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(
        True, 0
    )
    assert ca.not_valid_after_utc - ca.not_valid_before_utc > timedelta(days=19 * 365)
    broker = certificate("keys/broker/certificate.pem")
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.clinic.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.168.77.2"]
    chain = ["openssl", "verify", "-x509_strict", "-CAfile", "keys/ca.pem"]
    for purpose, holder in (("sslserver", "broker"), ("sslclient", "headquarters")):
        done = subprocess.run([*chain, "-purpose", purpose, f"keys/{holder}/certificate.pem"], check=False)
        assert done.returncode == 0
    assert "listener 8884" in Path("keys/broker/mosquitto.conf").read_text()


def test_a_device_certificate_is_for_that_client_alone_and_its_key_is_private(scanwright):
    scanwright("init", "SITE.yaml", "--out", "keys")
    assert scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")[0] == 0
    made = certificate("keys/devices/cart-1/certificate.pem")
    (name,) = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "cart-1"
    uses = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    left = made.not_valid_after_utc - datetime.now(timezone.utc)
    assert timedelta(days=824) < left < timedelta(days=826)
    # A cart whose clock stands where the authority was made takes it for valid.
    assert made.not_valid_before_utc == certificate("keys/ca.pem").not_valid_before_utc
    key = Path("keys/devices/cart-1/key.pem")
    assert load_pem_private_key(key.read_bytes(), None).public_key() == made.public_key()
    private = [path for path in Path("keys").rglob("*") if path.name in ("key.pem", "ca.key")]
    assert len(private) == 4 and all(path.stat().st_mode & 0o777 == 0o600 for path in private)


def test_a_valid_certificate_is_replaced_only_when_told_to(scanwright):
    scanwright("init", "SITE.yaml", "--out", "keys")
    scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    before = certificate("keys/devices/cart-1/certificate.pem")
    code, _, err = scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    assert code == 2 and "--renew" in err
    assert certificate("keys/devices/cart-1/certificate.pem") == before
    assert scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys", "--renew", "--days", "10")[0] == 0
    after = certificate("keys/devices/cart-1/certificate.pem")
    assert after.public_key() != before.public_key()
    # What was never finished is simply done again.
    Path("keys/devices/cart-1/certificate.pem").unlink()
    assert scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")[0] == 0


def test_a_revoked_cart_is_on_the_list_and_may_get_a_new_certificate(scanwright):
    scanwright("init", "SITE.yaml", "--out", "keys")
    first = crl()
    scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys", "--renew")
    code, out, _ = scanwright("revoke", "cart-1", "--dir", "keys")
    assert code == 0 and "2 certificates revoked" in out and "keys/broker/crl.pem" in out
    serial = certificate("keys/devices/cart-1/certificate.pem").serial_number
    revoked = crl()
    assert len(revoked) == 2 and revoked.get_revoked_certificate_by_serial_number(serial)
    assert revoked.is_signature_valid(certificate("keys/ca.pem").public_key())
    assert revoked.last_update_utc > first.last_update_utc  # of two lists the newer counts
    assert Path("keys/broker/crl.pem").read_bytes() == Path("keys/crl.pem").read_bytes()
    assert revoked.next_update_utc == certificate("keys/ca.pem").not_valid_after_utc
    assert scanwright("revoke", "cart-1", "--dir", "keys")[0] == 2
    assert scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")[0] == 0
    serial = certificate("keys/devices/cart-1/certificate.pem").serial_number
    assert crl().get_revoked_certificate_by_serial_number(serial) is None


def test_a_revocation_goes_to_the_broker_by_stick(scanwright, tmp_path):
    scanwright("init", "SITE.yaml", "--out", "keys")
    scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    shutil.copytree("keys/broker", "broker")
    assert scanwright("revoke", "cart-1", "--dir", "keys", "--stick", "nowhere")[0] == 2
    assert len(crl()) == 0, "a stick that is not there revokes nothing by halves"
    Path("stick").mkdir()
    code, out, _ = scanwright("revoke", "cart-1", "--dir", "keys", "--stick", "stick")
    assert code == 0 and "keys accept clinic-crl.pem" in out
    code, out, _ = scanwright("accept", "stick/clinic-crl.pem", "--broker", "broker")
    assert code == 0 and "1 certificate revoked; now restart mosquitto" in out
    assert Path("broker/crl.pem").read_bytes() == Path("keys/crl.pem").read_bytes()
    assert "already" in scanwright("accept", "stick/clinic-crl.pem", "--broker", "broker")[1]


def test_a_carried_list_that_is_older_foreign_or_damaged_is_not_taken(scanwright):
    scanwright("init", "SITE.yaml", "--out", "keys")
    scanwright("init", "SITE.yaml", "--out", "other")
    older = Path("keys/crl.pem").read_bytes()
    scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    scanwright("revoke", "cart-1", "--dir", "keys")
    shutil.copytree("keys/broker", "broker")
    kept = Path("broker/crl.pem").read_bytes()
    damaged = kept.replace(b"A", b"B", 5)
    for carried, words in (
        (older, "an older list would let carts in again"),
        (Path("other/crl.pem").read_bytes(), "not signed by this site's authority"),
        (damaged, "list.pem"),
        (b"", "no revocation list"),
    ):
        Path("list.pem").write_bytes(carried)
        code, _, err = scanwright("accept", "list.pem", "--broker", "broker")
        assert code == 2 and words in err and err.count("\n") == 1
    assert Path("broker/crl.pem").read_bytes() == kept
    assert scanwright("accept", "missing.pem", "--broker", "broker")[0] == 2


def test_show_lists_holders_their_end_and_what_was_revoked(scanwright):
    scanwright("init", "SITE.yaml", "--out", "keys")
    scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    scanwright("device", "SITE.yaml", "cart-2", "--dir", "keys")
    scanwright("revoke", "cart-1", "--dir", "keys")
    code, out, _ = scanwright("show", "keys")
    lines = {line.split()[1]: line for line in out.splitlines() if "cart" in line or "broker" in line}
    assert code == 0
    assert "revoked" in lines["cart-1"] and "824 days left" in lines["cart-2"] and "left" in lines["broker"]


def test_the_authority_s_key_opens_only_with_its_passphrase(scanwright, monkeypatch, tmp_path):
    (tmp_path / "passphrase").write_text("correct horse\n")
    given = ("--passphrase-file", "passphrase")
    code, out, err = scanwright("init", "SITE.yaml", "--out", "keys", *given)
    assert (code, err) == (0, "") and "correct horse" not in out
    assert b"ENCRYPTED" in Path("keys/ca.key").read_bytes()
    code, _, err = scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    assert code == 2 and "passphrase" in err
    monkeypatch.setenv(PASSPHRASE, "wrong")
    assert scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")[0] == 2
    assert not Path("keys/devices").exists()
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    assert scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")[0] == 0
    assert scanwright("revoke", "cart-1", "--dir", "keys", *given)[0] == 0


def test_a_wrong_passphrase_revokes_nothing_by_halves(scanwright, monkeypatch):
    monkeypatch.setenv(PASSPHRASE, "right")
    scanwright("init", "SITE.yaml", "--out", "keys")
    scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    monkeypatch.setenv(PASSPHRASE, "wrong")
    assert scanwright("revoke", "cart-1", "--dir", "keys")[0] == 2
    assert KeyFolder(Path("keys")).valid("cart-1") and not len(crl())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("init", "SITE.yaml", "--out", "keys"), ["keys", "already"]),
        (("device", "SITE.yaml", "cart-9", "--dir", "keys"), ["cart-9", "cart-1, cart-2"]),
        (("device", "OTHER.yaml", "cart-1", "--dir", "keys"), ["'elsewhere'", "'clinic'"]),
        (("device", "SITE.yaml", "cart-1", "--dir", "none"), ["none", "keys init"]),
        (("device", "SITE.yaml", "cart-1", "--dir", "keys", "--days", "9000"), ["ends on", "fewer days"]),
        (("revoke", "cart-1", "--dir", "keys"), ["cart-1", "no valid certificate"]),
        (("init", "PLAIN.yaml", "--out", "other"), ["broker.tls"]),
        (("init", "NAMED.yaml", "--out", "other"), ["'broker'", "rename"]),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(scanwright, tmp_path, arguments, words):
    scanwright("init", "SITE.yaml", "--out", "keys")
    (tmp_path / "OTHER.yaml").write_text(yaml.safe_dump(SITE | {"site": "elsewhere"}))
    (tmp_path / "PLAIN.yaml").write_text(yaml.safe_dump(SITE | {"broker": {"host": "b", "tls": False}}))
    named = [{"device": "broker", "target": "raspberry-pi-5"}]
    (tmp_path / "NAMED.yaml").write_text(yaml.safe_dump(SITE | {"carts": named}))
    code, _, err = scanwright(*arguments)
    assert code == 2 and len(err.splitlines()) == 1 and all(word in err for word in words), err
    assert not Path("other").exists()


def test_a_damaged_folder_is_named(scanwright):
    scanwright("init", "SITE.yaml", "--out", "keys")
    Path("keys/ca.key").write_bytes(Path("keys/broker/key.pem").read_bytes())
    code, _, err = scanwright("device", "SITE.yaml", "cart-1", "--dir", "keys")
    assert code == 2 and "does not belong to ca.pem" in err
    Path("keys/register.json").write_text("{}")
    code, _, err = scanwright("show", "keys")
    assert code == 2 and "register.json" in err


def test_an_interrupted_init_leaves_nothing_and_can_be_done_again(scanwright, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keys_folder, "acl", full)
        code, _, err = scanwright("init", "SITE.yaml", "--out", "keys")
    assert code == 2 and "No space left" in err and not Path("keys").exists()
    with pytest.raises(BadInputError, match="no keys here"):
        KeyFolder(Path("keys"))
    site = read(Path("SITE.yaml"), Site)
    assert KeyFolder.create(Path("keys"), site, 825, None).valid("broker")
