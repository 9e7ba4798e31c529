"""What SITE.yaml says of a cart is what the cart is told."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pyrage
import pytest
import yaml

from edge.agent.config import AgentConfig, DicomSource, SlotConfig
from edge.bundle.target import target
from edge.errors import BadInputError
from edge.keys.folder import KeyFolder
from edge.schema import parse
from edge.site import Site
from trainer.flashing.cart import KIOSK_NEEDS, SCREEN_PORT, cart_files
from trainer.flashing.flash import Bundles, Keys, packages_of
from trainer.flashing.label import label

CONFIGS = Path(__file__).parents[3] / "firmware_configs"
CART: dict[str, Any] = {"device": "cart-1", "target": "raspberry-pi-5", "dicom": {"callers": ["XRAY"]}}
SITE: dict[str, Any] = {
    "site": "clinic",
    "title": "Clinic <East>",
    "language": "fr",
    "ntp": ["10.1.0.1"],
    "broker": {"host": "broker.clinic.example"},
    "pacs": {"host": "10.1.0.2", "ae_title": "PACS", "results": ["report"]},
    "policy": {"name": "careful", "thresholds": {"lesion": 0.3}, "metered_bytes_a_day": 300000},
    "carts": [CART],
}


def site(cart: dict[str, Any] | None = None, **changes: Any) -> Site:
    carts = [CART | (cart or {})]
    return parse(yaml.safe_dump(SITE | {"carts": carts} | changes), Site, "SITE.yaml")


def files(said: Site, password: str | None = None) -> dict[str, str]:
    cart = said.carts[0]
    made = cart_files(said, cart, target(cart.target), ["tiny.swb"], [], password)
    return {path: entry.data.decode() for path, entry in made.items()}


def test_the_agent_is_told_what_the_site_says():
    config = parse(files(site())["/etc/scanwright/agent.yaml"], AgentConfig, "agent.yaml")
    assert (config.site, config.device, config.target) == ("clinic", "cart-1", "raspberry-pi-5")
    assert config.allow_unsigned and [str(b) for b in config.bundles] == [
        "/usr/share/scanwright/bundles/tiny.swb"
    ]
    (source,) = config.sources
    assert isinstance(source, DicomSource) and source.callers == ("XRAY",)
    assert config.mqtt.receipts and config.mqtt.port == 8883 and config.mqtt.tls
    assert str(config.mqtt.tls.key) == "/etc/scanwright/key.pem"
    assert config.mqtt.metered_bytes_a_day == 300000 and config.language == "fr"
    assert config.policy and config.policy.thresholds == {"lesion": 0.3}
    assert config.pacs and config.pacs.results == ("report",) and config.pacs.ae_title == "PACS"


def test_a_signed_bundle_is_a_slot_that_the_repository_on_the_cart_fills():
    said = site(updates={"repositories": ["https://updates.clinic.example/repository"], "health_s": 60})
    made = cart_files(said, said.carts[0], target("raspberry-pi-5"), [], ["chest"])
    config = parse(made["/etc/scanwright/agent.yaml"].data, AgentConfig, "agent.yaml")
    assert config.bundles == (SlotConfig(slot="chest"),) and not config.allow_unsigned
    assert config.update and config.update.agent and config.update.health_s == 60
    assert config.update.repositories == (
        "https://updates.clinic.example/repository",
        "/usr/share/scanwright/repository",
    )
    unit = made["/usr/lib/systemd/system/scanwright-agent.service.d/10-cart.conf"].data.decode()
    assert "\nExecStart=\nExecStart=/usr/bin/python3 -I -S /opt/scanwright/launch.py " in unit


def test_a_repository_that_no_cart_could_reach_is_refused_at_the_desk():
    with pytest.raises(
        BadInputError, match=r"updates\.repositories\.0: 'ftp://x/r': give a folder, or an http"
    ):
        site(updates={"repositories": ["ftp://x/r"]})


def test_a_cart_that_a_stick_serves_seals_to_headquarters_and_may_write_on_the_stick():
    made = files(site(courier={"hq_key": "hq.pub"}))
    config = parse(made["/etc/scanwright/agent.yaml"], AgentConfig, "agent.yaml")
    assert config.courier and str(config.courier.hq_key) == "/etc/scanwright/hq.pub"
    mount = (CONFIGS / "systemd/media-scanwright.mount").read_text()
    assert f"\nWhere={config.courier.mount}\n" in mount
    unit = (CONFIGS / "systemd/scanwright-agent.service").read_text()
    assert f"\nReadWritePaths=-{config.courier.mount}\n" in unit


def test_headquarters_key_goes_along_and_another_file_is_refused_by_name(tmp_path, tiny_bundle):
    said = site(broker={"host": "b", "tls": True}, courier={"hq_key": "hq.pub"})
    keys = Keys(KeyFolder.create(tmp_path / "keys", said, 30, None), None)
    agent = tmp_path / "scanwright_0_all.deb"
    agent.touch()
    tiny_bundle(tmp_path / "tiny.swb", target="raspberry-pi-5")
    bundles = Bundles((tmp_path / "tiny.swb",))
    make = partial(packages_of, said, said.carts[0], bundles, keys, tmp_path, agent, tmp_path)
    with pytest.raises(BadInputError, match=r"hq.pub: headquarters' key cannot be read"):
        make()
    (tmp_path / "hq.pub").write_text("AGE-SECRET-KEY-1\n")
    with pytest.raises(BadInputError, match=r"hq.pub: no public key"):
        make()
    public = str(pyrage.x25519.Identity.generate().to_public())
    (tmp_path / "hq.pub").write_text(public)
    package = make()[0][1]
    subprocess.run(["dpkg-deb", "-x", package, tmp_path / "root"], check=True)
    assert (tmp_path / "root/etc/scanwright/hq.pub").read_text() == f"{public}\n"


def test_the_modality_gets_an_address_and_reaches_nothing_but_dicom_and_the_screen():
    made = files(site({"network": {"modality_address": "10.9.0.1/24"}}))
    unit = made["/etc/systemd/network/05-scanwright-modality.network"]
    assert "Address=10.9.0.1/24" in unit and "DHCPServer=yes" in unit and "EmitRouter=no" in unit
    rules = made["/etc/scanwright/firewall.nft"]
    assert "tcp dport { 8080, 11112 } accept" in rules and rules.count('"eth0"') == 3
    assert "10.1.0.1" in made["/usr/lib/systemd/timesyncd.conf.d/scanwright.conf"]
    if nft := shutil.which("nft", path="/usr/sbin:/usr/bin"):
        done = subprocess.run(
            [nft, "-c", "-f", "-"], input=rules, capture_output=True, text=True, check=False
        )
        assert "Operation not permitted" in done.stderr or done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("address", "offset", "size"),
    [("10.9.0.1/24", 2, 20), ("10.9.0.254/24", 1, 20), ("10.9.0.1/29", 2, 5), ("10.9.0.6/29", 1, 5)],
)
def test_addresses_given_to_the_modality_are_never_the_carts_own(address, offset, size):
    made = files(site({"network": {"modality_address": address}}))
    unit = made["/etc/systemd/network/05-scanwright-modality.network"]
    assert f"PoolOffset={offset}\nPoolSize={size}\n" in unit
    own = int(address.split("/")[0].split(".")[-1]) % (8 if address.endswith("29") else 256)
    assert own not in range(offset, offset + size)


def test_a_cart_with_its_own_wifi_serves_its_screen_there_and_has_a_label():
    said = site({"network": {"access_point": True, "country": "RW"}})
    made = files(said, "correct horse")
    radio = made["/etc/wpa_supplicant/wpa_supplicant-wlan0.conf"]
    assert "mode=2" in radio and "country=RW" in radio and 'psk="correct horse"' in radio
    assert "Name=wlan0" in made["/etc/systemd/network/30-scanwright-wifi.network"]
    assert '"wlan0" jump strict' in made["/etc/scanwright/firewall.nft"]
    assert "interface-name:wlan0" in made["/etc/NetworkManager/conf.d/scanwright.conf"]
    picture = label(said, said.carts[0], "correct horse").decode()
    assert "http://192.168.78.1:8080/" in picture and "Clinic &lt;East&gt;" in picture and "cart-1" in picture
    assert picture.count("<svg") == 5


def test_a_kiosk_has_the_monitor_for_itself():
    drop_in = "/usr/lib/systemd/system/lightdm.service.d/scanwright-kiosk.conf"
    assert "ConditionPathExists=!/etc/scanwright/agent.yaml" in files(site({"kiosk": True}))[drop_in]
    assert drop_in not in files(site())
    script = (CONFIGS / "card/kiosk").read_text()
    assert f"http://127.0.0.1:{SCREEN_PORT}/" in script
    assert all(name in script for group in KIOSK_NEEDS for name in group)


def test_a_cart_that_joins_a_wifi_has_its_passphrase_in_a_file_of_roots():
    said = site({"network": {"wifi": {"ssid": "ward", "password_file": "ward.txt", "country": "RW"}}})
    made = cart_files(said, said.carts[0], target("raspberry-pi-5"), ["tiny.swb"], [], "secret words")
    profile = made["/etc/NetworkManager/system-connections/scanwright.nmconnection"]
    assert profile.mode == 0o600 and b"psk=secret words" in profile.data


@pytest.mark.parametrize(
    ("cart", "words"),
    [
        ({"dicom": None}, "give it dicom or sources"),
        ({"dicom": {}}, "name the AE titles"),
        ({"sources": [{"kind": "folder", "path": "images"}]}, "write the whole path"),
        ({"network": {"access_point": True, "country": "RW"}}, "passphrase"),
    ],
)
def test_a_site_that_says_too_little_is_refused_by_the_name_of_the_cart(cart, words):
    with pytest.raises(BadInputError, match=f"cart 'cart-1': .*{words}"):
        files(site(cart))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"carts": [CART, CART]}, "two carts are called 'cart-1'"),
        ({"carts": [CART | {"network": {"access_point": True}}]}, "name the country"),
        ({"carts": [CART | {"network": {"modality_address": "10.0.0.1/31"}}]}, "no host's address"),
        ({"carts": [CART | {"network": {"modality_address": "10.0.0.0/24"}}]}, "no host's address"),
        ({"broker": {"host": "b", "headquarters": "nowhere"}}, "broker.headquarters"),
        ({"broker": {"host": "b", "tls": False}, "courier": {"hq_key": "hq.pub"}}, "needs broker.tls"),
    ],
)
def test_a_site_file_that_contradicts_itself_is_refused_in_one_line(changes, words):
    with pytest.raises(BadInputError, match=words) as error:
        parse(yaml.safe_dump(SITE | changes), Site, "SITE.yaml")
    assert "\n" not in str(error.value) and str(error.value).startswith("SITE.yaml: ")
