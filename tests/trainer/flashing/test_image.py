"""Vendors' images become carts' images; whatever is no such image is refused by name."""

from __future__ import annotations

import gzip
import lzma
import shutil
from pathlib import Path

import pytest
import yaml
from card_images import CMDLINE, MIB, check, jetson_image, pi_image, root_tree, run

from edge.bundle.target import target
from edge.errors import BadInputError, ScanwrightError
from edge.schema import parse
from edge.site import Site
from trainer.flashing import image as image_module
from trainer.flashing.filesystems import Ext4, Fat
from trainer.flashing.image import copy_image, examine, inject

SITE = parse(
    yaml.safe_dump(
        {
            "site": "clinic",
            "timezone": "Africa/Kigali",
            "broker": {"host": "broker", "tls": False},
            "carts": [
                {"device": name, "target": "raspberry-pi-5", "dicom": {"callers": ["XRAY"]}}
                for name in ("cart-1", "cart-2")
            ],
        }
    ),
    Site,
    "SITE.yaml",
)
PI = target("raspberry-pi-5")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Partitions of a size that a test can read."""
    monkeypatch.setattr(image_module, "_ROOT_GROWTH", 8 * MIB)
    monkeypatch.setattr(image_module, "_DATA", 16 * MIB)


@pytest.fixture
def packages(tmp_path) -> list[Path]:
    made = []
    for name in ("scanwright_0.1.0_arm64.deb", "scanwright-cart_0.1.0_all.deb"):
        made.append(tmp_path / name)
        made[-1].write_bytes(name.encode() * 5000)
    return made


@pytest.fixture
def image(tmp_path) -> Path:
    return pi_image(tmp_path / "pi.img", root_tree(tmp_path / "root"))


def injected(image: Path, packages: list[Path], device: str = "cart-1") -> Fat:
    layout = examine(image, PI)
    inject(image, layout, SITE, SITE.cart(device), packages)
    assert layout.boot
    return Fat(image, layout.boot.start)


def test_an_image_gets_packages_first_start_and_a_data_partition_and_its_file_systems_stay_sound(
    image, packages
):
    fat = injected(image, packages)
    assert fat.names("scanwright") == sorted(
        ["SHA256SUMS", "card.conf", "first-boot", *(path.name for path in packages)]
    )
    for path in packages:
        assert fat.read(f"scanwright/{path.name}") == path.read_bytes()
    assert b"DEVICE=cart-1\nTIMEZONE=Africa/Kigali\n" in (fat.read("scanwright/card.conf") or b"")
    words = (fat.read("cmdline.txt") or b"").decode()
    assert words.count("\n") == 1 and words.startswith(CMDLINE)
    assert " systemd.run=/boot/firmware/firstrun.sh " in words
    assert b"scanwright/first-boot" in (fat.read("firstrun.sh") or b"")
    listed = run("sfdisk", "-d", image)
    assert listed.count("type=83") == 2 and "label-id: 0x1234abcd" in listed
    check(image)


def test_an_image_with_cloud_init_installs_after_it_and_leaves_it_what_it_was_given(tmp_path, packages):
    root = root_tree(tmp_path / "root", cloud_init=True)
    mine = b"#cloud-config\nusers: [{name: tech}]\n"
    image = pi_image(tmp_path / "pi.img", root, boot={"user-data": mine.decode()})
    for device in ("cart-1", "cart-2"):
        fat = injected(image, packages, device)
        words = (fat.read("cmdline.txt") or b"").decode().split()
        assert words.count("network-config=disabled") == 1 and not any("systemd.run" in w for w in words)
        assert fat.read("user-data") == mine
    ext4 = Ext4(image, examine(image, PI).root.start)
    unit = (ext4.read("/etc/systemd/system/scanwright-first-boot.service") or b"").decode()
    assert "After=basic.target cloud-final.service\n" in unit
    assert "ExecStart=/bin/sh /boot/firmware/scanwright/first-boot\nExecStartPost=" in unit
    wanted = "/etc/systemd/system/multi-user.target.wants/scanwright-first-boot.service"
    assert ext4.target(wanted) == "/etc/systemd/system/scanwright-first-boot.service"
    check(image)


def test_an_image_whose_cloud_init_is_off_does_without_it(tmp_path, packages):
    root = root_tree(tmp_path / "root", cloud_init=True)
    image = pi_image(tmp_path / "pi.img", root, boot={"cmdline.txt": f"{CMDLINE} cloud-init=disabled\n"})
    words = (injected(image, packages).read("cmdline.txt") or b"").decode()
    assert " systemd.run=/boot/firmware/firstrun.sh " in words and "network-config" not in words


def test_injecting_twice_is_injecting_once(image, packages):
    injected(image, packages)
    first = image.read_bytes()
    assert examine(image, PI).injected
    injected(image, packages)
    after = image.read_bytes()
    assert len(after) == len(first) and after[:512] == first[:512]
    fat = Fat(image, 4 * MIB)
    assert (fat.read("cmdline.txt") or b"").count(b"systemd.run=") == 1
    check(image)


def test_the_vendors_own_first_start_is_taken_out(tmp_path, packages):
    vendor = f"{CMDLINE} quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n"
    image = pi_image(tmp_path / "pi.img", root_tree(tmp_path / "root"), boot={"cmdline.txt": vendor})
    words = (injected(image, packages).read("cmdline.txt") or b"").decode()
    assert " quiet " in words and "init=" not in words.replace("systemd.unit=", "")


def test_a_jetsons_root_gets_a_service_and_starts_it_without_the_vendors_questions(tmp_path, packages):
    root = root_tree(tmp_path / "root", codename="jammy")
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/nv-oem-config.target")
    image = jetson_image(tmp_path / "jetson.img", root)
    board = target("jetson-orin-nano")
    for _ in range(2):
        layout = examine(image, board)
        inject(image, layout, SITE, SITE.cart("cart-1"), packages)
    assert examine(image, board).injected and layout.release.python == "3.10"
    ext4 = Ext4(image, layout.root.start)
    assert ext4.read(f"/scanwright/{packages[0].name}") == packages[0].read_bytes()
    assert ext4.target("/etc/systemd/system/default.target") == "/lib/systemd/system/multi-user.target"
    wanted = "/etc/systemd/system/multi-user.target.wants/scanwright-first-boot.service"
    assert ext4.target(wanted) == "/etc/systemd/system/scanwright-first-boot.service"
    assert b"/scanwright/first-boot" in (
        ext4.read("/etc/systemd/system/scanwright-first-boot.service") or b""
    )
    check(image)


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, lambda data: data], ids=["xz", "gz", "plain"])
def test_a_copy_is_the_image_whether_it_is_compressed_or_not(tmp_path, pack):
    data = bytes(5 << 20) + b"end of it" * 1000 + bytes(6 << 20)
    (tmp_path / "in").write_bytes(pack(data))
    taken: list[int] = []
    copy_image(tmp_path / "in", tmp_path / "out", taken.append)
    assert (tmp_path / "out").read_bytes() == data
    assert sum(taken) == (tmp_path / "in").stat().st_size
    assert (tmp_path / "out").stat().st_blocks * 512 < 5 << 20


def test_a_download_that_was_cut_short_is_named(tmp_path):
    (tmp_path / "in.xz").write_bytes(lzma.compress(bytes(range(256)) * 4000)[:-20])
    with pytest.raises(BadInputError, match=r"in\.xz: is damaged or cut short"):
        copy_image(tmp_path / "in.xz", tmp_path / "out", lambda _: None)


def broken(image: Path, tmp_path: Path, how: str) -> Path:
    if how == "text":
        image.write_text("this is no image\n" * 100)
    elif how == "cut":
        with image.open("r+b") as file:
            file.truncate(30 * MIB)
    elif how == "no-boot":
        run("sfdisk", "-q", "--part-type", image, "1", "83")
    elif how == "no-root":
        run("sfdisk", "-q", "--delete", image, "2")
    elif how == "no-fat":
        with image.open("r+b") as file:
            file.seek(4 * MIB)
            file.write(bytes(MIB))
    elif how == "no-ext4":
        with image.open("r+b") as file:
            file.seek(20 * MIB)
            file.write(bytes(MIB))
    elif how == "no-cmdline":
        run("mdel", "-i", f"{image}@@{4 * MIB}", "::cmdline.txt")
    else:
        machine, codename = how.split()
        shutil.rmtree(tmp_path / "root")
        pi_image(image, root_tree(tmp_path / "root", machine, codename))
    return image


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("text", "is not a disk image"),
        ("cut", "is cut short"),
        ("no-boot", "no FAT boot partition"),
        ("no-root", "no Linux root partition"),
        ("no-fat", "no FAT file system"),
        ("no-ext4", "no ext4 file system"),
        ("no-cmdline", "no cmdline.txt"),
        ("armv7 bookworm", "is for armv7 .32 bit., but raspberry-pi-5 needs aarch64"),
        ("aarch64 buster", "no release 'buster'; it has bookworm, trixie"),
    ],
)
def test_what_is_no_image_for_this_board_is_refused_by_name_and_not_touched(image, tmp_path, how, words):
    before = broken(image, tmp_path, how).read_bytes()
    with pytest.raises(BadInputError, match=f"pi.img: .*{words}"):
        examine(image, PI)
    assert image.read_bytes() == before


def test_a_boot_partition_without_room_is_said_and_the_vendors_start_stays(image, packages):
    packages[0].write_bytes(bytes(range(256)) * 4 * 1024 * 20)
    with pytest.raises(ScanwrightError, match=r"pi\.img: the boot partition has no room for scanwright/"):
        injected(image, packages)
    assert Fat(image, 4 * MIB).read("cmdline.txt") == f"{CMDLINE}\n".encode()


@pytest.mark.parametrize(
    ("installed", "missing"),
    [
        (["chromium", "labwc"], None),
        (["chromium-browser", "labwc"], None),
        (["labwc"], "chromium or chromium-browser"),
        (["chromium"], "labwc"),
        ([], "chromium or chromium-browser"),
    ],
)
def test_a_kiosk_is_refused_on_an_image_that_cannot_show_it(tmp_path, packages, installed, missing):
    root = root_tree(tmp_path / "root")
    said = "".join(f"Package: {name}\nStatus: install ok installed\nVersion: 1\n\n" for name in installed)
    (root / "var/lib/dpkg").mkdir(parents=True)
    gone = "".join(
        f"Package: {name}\nStatus: deinstall ok config-files\n\n" for name in ("labwc", "chromium")
    )
    (root / "var/lib/dpkg/status").write_text(said + gone)
    image = pi_image(tmp_path / "pi.img", root)
    before = image.read_bytes()
    cart = SITE.cart("cart-1").model_copy(update={"kiosk": True})
    if missing is None:
        inject(image, examine(image, PI), SITE, cart, packages)
        return
    with pytest.raises(BadInputError, match=f"has no {missing}, .*'cart-1'.*with desktop"):
        inject(image, examine(image, PI), SITE, cart, packages)
    assert image.read_bytes() == before


def test_a_card_with_four_partitions_has_no_room_for_data(image, packages):
    with image.open("r+b") as file:
        file.truncate(44 * MIB)
    run("sfdisk", "-q", "--append", image, given="1MiB,1MiB,83\n2MiB,1MiB,83\n")
    before = image.read_bytes()
    with pytest.raises(BadInputError, match="four partitions already"):
        injected(image, packages)
    assert image.read_bytes() == before
