"""The files of one cart as SITE.yaml has it: its agent, its network, its firewall. No file is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Any

import yaml

from edge.agent.config import AgentConfig, DicomSource, FolderSource, Source
from edge.bundle.target import Target
from edge.errors import BadInputError
from edge.schema import parse
from edge.site import Cart, Site

__all__ = [
    "BUNDLES",
    "CONFIG",
    "HQ_KEY",
    "KIOSK_NEEDS",
    "LAUNCHER",
    "REPOSITORY",
    "ROOT",
    "SCREEN_PORT",
    "STATE",
    "Entry",
    "cart_files",
    "wifi_name",
]

CONFIG, STATE = "/etc/scanwright", "/var/lib/scanwright"
BUNDLES, REPOSITORY = "/usr/share/scanwright/bundles", "/usr/share/scanwright/repository"
ROOT = f"{CONFIG}/root.json"
HQ_KEY = f"{CONFIG}/hq.pub"
LAUNCHER = "/opt/scanwright/launch.py"
SCREEN_PORT = 8080
KIOSK_NEEDS = (("chromium", "chromium-browser"), ("labwc",))
"""Debian packages that a kiosk runs on, one of each group; the vendor's image with desktop has them."""
_RADIO = "wlan0"
_STICK = "/media/scanwright"  # where the package's media-scanwright.mount puts it
_JOURNAL = "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n"


@dataclass(frozen=True)
class Entry:
    """A file's bytes and mode, as it is installed."""

    data: bytes
    mode: int = 0o644


def cart_files(
    site: Site,
    cart: Cart,
    board: Target,
    bundles: Sequence[str],
    slots: Sequence[str],
    wifi_password: str | None = None,
) -> dict[str, Entry]:
    """All that differs from cart to cart but its keys, by absolute path.

    ``bundles`` are file names below :data:`BUNDLES` that nobody signed; ``slots`` are names of bundles that
    the repository at :data:`REPOSITORY` offers. ``wifi_password`` is that of the network that the cart joins,
    or of its own.

    Raises:
        BadInputError: the site does not say enough to run the cart.
    """
    network = cart.network
    files = {
        f"{CONFIG}/agent.yaml": _agent(site, cart, board, bundles, slots),
        f"{CONFIG}/firewall.nft": _firewall(cart),
        # The first name that matches counts; others' (cloud-init's, netplan's) begin with 10.
        "/etc/systemd/network/05-scanwright-modality.network": _served(
            network.modality_interface, network.modality_address
        ),
        "/etc/NetworkManager/conf.d/scanwright.conf": _left_alone(cart),
        "/usr/lib/systemd/journald.conf.d/scanwright.conf": _JOURNAL,
        "/usr/lib/systemd/system/scanwright-agent.service.d/10-cart.conf": _service(cart, board, bool(slots)),
    }
    if network.uplink == "dhcp":
        # Only where no NetworkManager does this already; see the package's postinst.
        files["/usr/share/scanwright/network/20-scanwright-uplink.network"] = (
            f"[Match]\nName={network.uplink_interface}\n\n[Network]\nDHCP=ipv4\n"
        )
    if cart.kiosk:
        # One thing has the monitor.
        files["/usr/lib/systemd/system/lightdm.service.d/scanwright-kiosk.conf"] = (
            f"[Unit]\nConditionPathExists=!{CONFIG}/agent.yaml\n"
        )
    if site.ntp:
        files["/usr/lib/systemd/timesyncd.conf.d/scanwright.conf"] = f"[Time]\nNTP={' '.join(site.ntp)}\n"
    made = {path: Entry(text.encode()) for path, text in files.items()}
    return made | _radio(cart, wifi_password)


def wifi_name(cart: Cart) -> str:
    """The name of the cart's own Wi-Fi (at most 32 bytes)."""
    return cart.device[:32]


def _agent(site: Site, cart: Cart, board: Target, bundles: Sequence[str], slots: Sequence[str]) -> str:
    policy = site.policy
    said: dict[str, Any] = {
        "schema_version": 1,
        "site": site.site,
        "device": cart.device,
        "target": board.name,
        "state": STATE,
        "bundles": [*({"slot": name} for name in slots), *(f"{BUNDLES}/{name}" for name in bundles)],
        "allow_unsigned": bool(bundles),
        "threads": board.threads,
        "sources": [source.model_dump(mode="json", exclude_defaults=True) for source in _sources(cart)],
        "mqtt": {"host": site.broker.host, "port": site.broker.port, "receipts": site.broker.receipts},
        "screen": {"host": "0.0.0.0", "port": SCREEN_PORT},
        "language": site.language,
    }
    # What a kind says by its default is left out above, and cannot be told apart without it.
    for source, written in zip(_sources(cart), said["sources"], strict=True):
        written["kind"] = source.kind
    if site.broker.tls:
        names = {"ca": "ca.pem", "certificate": "certificate.pem", "key": "key.pem"}
        said["mqtt"]["tls"] = {key: f"{CONFIG}/{name}" for key, name in names.items()}
    if slots:
        said["update"] = site.updates.model_dump(mode="json", exclude_defaults=True) | {
            "repositories": [*site.updates.repositories, REPOSITORY],
            "root": ROOT,
            "agent": True,
        }
    if site.courier:
        said["courier"] = {"mount": _STICK, "hq_key": HQ_KEY}
    if site.pacs:
        said["pacs"] = site.pacs.model_dump(mode="json", exclude_defaults=True)
    if policy:
        said["policy"] = {"name": policy.name, "thresholds": policy.thresholds}
        said["keep_days"] = policy.keep_days
        if policy.metered_bytes_a_day:
            said["mqtt"]["metered_bytes_a_day"] = policy.metered_bytes_a_day
    text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
    parse(text, AgentConfig, f"cart '{cart.device}'")  # what the agent would refuse is refused at the desk
    return "# Made by 'scanwright flash' from SITE.yaml: change it there.\n" + text


def _sources(cart: Cart) -> list[Source]:
    sources = list(cart.sources)
    if cart.dicom:
        if not cart.dicom.callers:
            raise BadInputError(
                f"cart '{cart.device}': dicom.callers: name the AE titles that may send to it"
            )
        sources.append(
            DicomSource(ae_title=cart.dicom.ae_title, port=cart.dicom.port, callers=cart.dicom.callers)
        )
    if not sources:
        raise BadInputError(f"cart '{cart.device}': give it dicom or sources; nothing brings it an image")
    for source in sources:
        if isinstance(source, FolderSource) and not source.path.is_absolute():
            raise BadInputError(
                f"cart '{cart.device}': sources: {source.path}: write the whole path, beginning with /"
            )
    return sources


def _firewall(cart: Cart) -> str:
    ports = sorted({source.port for source in _sources(cart) if isinstance(source, DicomSource)})
    network = cart.network
    lines = [
        "# Towards the modality only DICOM, the screen and an address; other interfaces are not touched.",
        "table inet scanwright",
        "delete table inet scanwright",
        "table inet scanwright {",
        "  chain strict {",
        "    ct state established,related accept",
        "    icmp type echo-request accept",
        "    udp dport 67 accept",
        f"    tcp dport {{ {', '.join(map(str, [SCREEN_PORT, *ports]))} }} accept",
        "    drop",
        "  }",
        "  chain input {",
        "    type filter hook input priority filter; policy accept;",
        f'    iifname "{network.modality_interface}" jump strict',
    ]
    inner = [network.modality_interface]
    if network.access_point:
        lines.append(f'    iifname "{_RADIO}" jump strict')
        inner.append(_RADIO)
    lines += ["  }", "  chain forward {", "    type filter hook forward priority filter; policy accept;"]
    for name in inner:
        lines += [f'    iifname "{name}" drop', f'    oifname "{name}" drop']
    return "\n".join([*lines, "  }", "}", ""])


def _served(interface: str, address: IPv4Interface) -> str:
    """A port with a fixed address, which gives addresses to whoever is plugged in there and leads nowhere."""
    hosts = address.network.num_addresses - 2
    own = int(address.ip) - int(address.network.network_address)
    offset = own + 1 if own < hosts / 2 else 1
    size = min(20, hosts - own if offset > 1 else own - 1)
    return f"""\
[Match]
Name={interface}

[Link]
RequiredForOnline=no

[Network]
Address={address}
ConfigureWithoutCarrier=yes
LinkLocalAddressing=no
IPv6AcceptRA=no
DHCPServer=yes

[DHCPServer]
PoolOffset={offset}
PoolSize={size}
EmitDNS=no
EmitNTP=no
EmitRouter=no
"""


def _left_alone(cart: Cart) -> str:
    names = [cart.network.modality_interface] + [_RADIO] * cart.network.access_point
    unmanaged = ";".join(f"interface-name:{name}" for name in names)
    return f"[keyfile]\nunmanaged-devices={unmanaged}\n"


def _service(cart: Cart, board: Target, updated: bool) -> str:
    high = board.agent_memory_limit_mb
    folders = [source.path for source in _sources(cart) if isinstance(source, FolderSource)]
    lines = ["[Service]", f"MemoryHigh={high}M", f"MemoryMax={high * 3 // 2}M"]
    lines += [f"ReadWritePaths=-{folder}" for folder in folders]
    if updated:
        run = f"/opt/scanwright/bin/scanwright agent run --config {CONFIG}/agent.yaml"
        lines += ["ExecStart=", f"ExecStart=/usr/bin/python3 -I -S {LAUNCHER} {STATE}/slots/agent {run}"]
    return "\n".join([*lines, ""])


def _radio(cart: Cart, password: str | None) -> dict[str, Entry]:
    network = cart.network
    if not network.wifi and not network.access_point:
        return {}
    if password is None or not 8 <= len(password) <= 63 or not password.isascii() or '"' in password:
        raise BadInputError(
            f"cart '{cart.device}': the Wi-Fi passphrase has to be 8 to 63 plain ASCII characters, no quotes"
        )
    if network.wifi:
        profile = f"""\
[connection]
id=scanwright
type=wifi

[wifi]
mode=infrastructure
ssid={network.wifi.ssid}

[wifi-security]
key-mgmt=wpa-psk
psk={password}

[ipv4]
method=auto

[ipv6]
method=auto
"""
        path = "/etc/NetworkManager/system-connections/scanwright.nmconnection"
        return {path: Entry(profile.encode(), 0o600)}
    own = f"""\
ctrl_interface=/run/wpa_supplicant
country={network.country}
network={{
    ssid="{wifi_name(cart)}"
    mode=2
    frequency=2437
    key_mgmt=WPA-PSK
    proto=RSN
    pairwise=CCMP
    psk="{password}"
}}
"""
    return {
        f"/etc/wpa_supplicant/wpa_supplicant-{_RADIO}.conf": Entry(own.encode(), 0o600),
        "/etc/systemd/network/30-scanwright-wifi.network": Entry(
            _served(_RADIO, network.access_point_address).encode()
        ),
    }
