"""``scanwright flash`` as somebody at a desk uses it; the agent's package is a small one here."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from card_images import MIB, check, pi_image, root_tree

from edge.cli import main
from edge.keys.folder import KeyFolder
from trainer.flashing import image as image_module
from trainer.flashing import making
from trainer.flashing.filesystems import Fat

pytestmark = pytest.mark.integration

CART: dict[str, Any] = {
    "target": "raspberry-pi-5",
    "dicom": {"callers": ["XRAY"]},
    "network": {"access_point": True, "country": "RW"},
}
SITE = {
    "site": "clinic",
    "broker": {"host": "broker"},
    "carts": [CART | {"device": "cart-1"}, CART | {"device": "cart-2"}],
}
GIVEN = ("flash", "--site", "SITE.yaml", "--keys", "keys", "--bundle", "tiny.swb", "--allow-unsigned")


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Any, capsys: Any
) -> Callable[..., Any]:
    """The command line in a folder with a site, its keys, a bundle and a vendor's image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANWRIGHT_KEYS_PASSPHRASE", raising=False)
    monkeypatch.setattr(image_module, "_ROOT_GROWTH", 4 * MIB)
    monkeypatch.setattr(image_module, "_DATA", 16 * MIB)
    Path("SITE.yaml").write_text(yaml.safe_dump(SITE))
    tiny_bundle(Path("tiny.swb"))
    tiny_bundle(Path("other.swb"), target="raspberry-pi-4")
    pi_image(Path("vendor.img"), root_tree(Path("root")))
    agent = Path("agent") / "scanwright_0.1.0_arm64.deb"
    agent.parent.mkdir()
    agent.write_bytes(b"agent" * 100)
    monkeypatch.setattr(making, "agent_for", lambda *_: agent)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        said = capsys.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    assert run("keys", "init", "SITE.yaml", "--out", "keys")[0] == 0
    return run


def carried(image: Path, folder: Path) -> Path:
    """The cart's package on a card, unpacked."""
    data = Fat(image, 4 * MIB).read("scanwright/scanwright-cart_0.1.0_all.deb")
    assert data
    (folder / "cart.deb").write_bytes(data)
    subprocess.run(["dpkg-deb", "-x", folder / "cart.deb", folder / "x"], check=True, timeout=30)
    return folder / "x"


def test_an_image_is_that_carts_and_has_its_label(desk, tmp_path):
    code, out, err = desk(*GIVEN, "--cart", "cart-2", "--image", "vendor.img", "--out", "cart.img")
    assert code == 0, err
    held = carried(tmp_path / "cart.img", tmp_path)
    key = (held / "etc/scanwright/key.pem").read_bytes()
    assert key == Path("keys/devices/cart-2/key.pem").read_bytes()
    assert yaml.safe_load((held / "etc/scanwright/agent.yaml").read_text())["device"] == "cart-2"
    password = Path("keys/devices/cart-2/wifi").read_text()
    assert password in Path("cart-2-label.svg").read_text() and password not in out + err
    assert not list(tmp_path.glob(".*.part"))
    check(tmp_path / "cart.img")
    # Made again, it is the same cart with the same label.
    code, _, err = desk(*GIVEN, "--cart", "cart-2", "--image", "vendor.img", "--out", "again.img")
    assert code == 0, err
    assert Path("again.img").read_bytes()[:512] == Path("cart.img").read_bytes()[:512]
    assert (carried(tmp_path / "again.img", tmp_path) / "etc/scanwright/key.pem").read_bytes() == key


def test_a_wrong_passphrase_is_told_before_any_work_is_done(desk, monkeypatch):
    monkeypatch.setenv("SCANWRIGHT_KEYS_PASSPHRASE", "right")
    assert desk("keys", "init", "SITE.yaml", "--out", "locked")[0] == 0
    given = (*GIVEN, "--keys", "locked", "--cart", "cart-1")
    monkeypatch.setenv("SCANWRIGHT_KEYS_PASSPHRASE", "wrong")
    work: list[object] = []
    with monkeypatch.context() as watched:
        watched.setattr(making, "agent_for", lambda *given: work.append(given))
        watched.setattr(making, "copy_image", lambda *given: work.append(given))
        for made in (("--image", "vendor.img", "--out", "cart.img"), ("--deb", "packages")):
            code, _, err = desk(*given, *made)
            assert code == 2 and len(err.splitlines()) == 1 and "passphrase is wrong" in err
    assert not work and not Path("packages").exists()
    monkeypatch.setenv("SCANWRIGHT_KEYS_PASSPHRASE", "right")
    assert desk(*given, "--image", "vendor.img", "--out", "cart.img")[0] == 0


def test_forty_cards_of_one_table_have_forty_identities(desk, tmp_path):
    with Path("CARTS.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("device", "like"), *((f"ward-{n:02}", "cart-1") for n in range(40))])
    code, _, err = desk(*GIVEN, "--batch", "CARTS.csv", "--image", "vendor.img", "--out", "cards")
    assert code == 0, err
    images = sorted(Path("cards").glob("*.img"))
    assert len(images) == 40 and len(list(Path("cards").glob("*-label.svg"))) == 40
    keys = set()
    for number in (0, 17, 39):
        folder = tmp_path / str(number)
        folder.mkdir()
        held = carried(images[number], folder)
        keys.add((held / "etc/scanwright/key.pem").read_bytes())
        assert (
            yaml.safe_load((held / "etc/scanwright/agent.yaml").read_text())["device"] == f"ward-{number:02}"
        )
    assert len(keys) == 3 and len(KeyFolder(Path("keys")).register.issued) == 42


def test_a_replaced_cart_keeps_its_name_and_the_dead_ones_certificate_is_revoked(desk):
    assert desk(*GIVEN, "--cart", "cart-1", "--image", "vendor.img", "--out", "a.img")[0] == 0
    old = Path("keys/devices/cart-1/certificate.pem").read_bytes()
    code, out, err = desk(*GIVEN, "--replace", "cart-1", "--image", "vendor.img", "--out", "b.img")
    assert code == 0 and "1 revoked; copy keys/broker/crl.pem" in out, err
    assert Path("keys/devices/cart-1/certificate.pem").read_bytes() != old
    assert [
        bool(entry.revoked) for entry in KeyFolder(Path("keys")).register.issued if entry.name == "cart-1"
    ] == [
        True,
        False,
    ]


def test_replacing_may_be_tried_again_after_it_failed(desk):
    assert desk(*GIVEN, "--cart", "cart-1", "--image", "vendor.img", "--out", "a.img")[0] == 0
    for _ in range(2):
        code, _, err = desk(*GIVEN, "--replace", "cart-1", "--image", "gone.img", "--out", "b.img")
        assert code == 2 and "gone.img: no such file" in err
    assert desk(*GIVEN, "--replace", "cart-1", "--image", "vendor.img", "--out", "b.img")[0] == 0


def test_another_sites_file_revokes_nobody(desk):
    assert desk(*GIVEN, "--cart", "cart-1", "--image", "vendor.img", "--out", "a.img")[0] == 0
    site = Path("SITE.yaml")
    site.write_text(re.sub(r"^site: .*$", "site: elsewhere", site.read_text(), flags=re.MULTILINE))
    code, _, err = desk(*GIVEN, "--replace", "cart-1", "--image", "vendor.img", "--out", "b.img")
    assert code == 2 and "but SITE.yaml is of 'elsewhere'" in err
    assert not any(entry.revoked for entry in KeyFolder(Path("keys")).register.issued)


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("needs root for a loop device")
    (tmp_path / "card").write_bytes(b"old!" * (80 * MIB // 4))
    command = ["losetup", "--find", "--show", tmp_path / "card"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    yield Path(made)
    subprocess.run(["losetup", "--detach", made], check=True, timeout=30)


def test_a_card_is_written_after_a_yes_alone(desk, card, monkeypatch):
    given = (*GIVEN, "--cart", "cart-1", "--image", "vendor.img", "--device", str(card))
    code, _, err = desk(*given)
    assert code == 2 and "is not removable; --any-disk admits it" in err
    code, out, _ = desk(*given, "--any-disk")  # standard input is no terminal that says yes
    assert code != 0 and f"erases {card}" in out
    assert card.open("rb").read(4) == b"old!"
    code, out, err = desk(*given, "--any-disk", "--yes")
    assert code == 0 and f"{card}: is cart-1's card, read back as written" in out, err
    backing = Path("card")
    assert "card.conf" in Fat(backing, 4 * MIB).names("scanwright")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cart", "cart-9", "--image", "vendor.img", "--out", "o"), "no cart is called 'cart-9'"),
        (("--image", "vendor.img", "--out", "o"), "--cart: say which: cart-1, cart-2"),
        (("--cart", "cart-1", "--image", "none.img", "--out", "o"), "none.img: no such file"),
        (
            ("--cart", "cart-1", "--image", "SITE.yaml", "--out", "o"),
            "SITE.yaml: is too short to be a disk image",
        ),
        (("--cart", "cart-1", "--image", "vendor.img"), "give one of --out and --device"),
        (("--cart", "cart-1"), "give --image"),
        (("--cart", "cart-1", "--image", "vendor.img", "--out", "vendor.img"), "is the vendor's image"),
        (("--cart", "cart-1", "--image", "vendor.img", "--device", "SITE.yaml"), "is no disk"),
        (("--cart", "cart-1", "--target", "phone", "--deb", "o"), "cart 'cart-1' is a raspberry-pi-5"),
        (
            ("--cart", "cart-1", "--bundle", "other.swb", "--deb", "o"),
            "other.swb: is made for raspberry-pi-4",
        ),
        (("--cart", "cart-1", "--deb", "o", "--release", "buster"), "no release 'buster'"),
        (("--batch", "twice.csv", "--image", "vendor.img", "--out", "o"), "line 3: 'a' is there twice"),
        (("--batch", "odd.csv", "--image", "vendor.img", "--out", "o"), "unknown column 'name'"),
        (("--batch", "wide.csv", "--image", "vendor.img", "--out", "o"), "line 2: has more cells"),
        (("--batch", "bad.csv", "--image", "vendor.img", "--out", "o"), "line 2: 'Cart 1' is no name"),
        (("--batch", "twice.csv", "--image", "vendor.img", "--device", "/dev/null"), "--batch writes images"),
    ],
)
def test_what_cannot_be_flashed_is_said_in_one_line_and_leaves_nothing(desk, arguments, words):
    Path("twice.csv").write_text("device\na\na\n")
    Path("odd.csv").write_text("device,name\na,b\n")
    Path("wide.csv").write_text("device\ncart-1,cart-2\n")
    Path("bad.csv").write_text("device\nCart 1\n")
    before = Path("vendor.img").read_bytes()
    code, _, err = desk(*GIVEN, *arguments)
    assert code == 2 and words in err and len(err.splitlines()) == 1, err
    assert not Path("o").exists() and Path("vendor.img").read_bytes() == before


def test_an_unsigned_bundle_is_refused_unless_it_is_admitted(desk):
    given = tuple(word for word in GIVEN if word != "--allow-unsigned")
    code, _, err = desk(*given, "--cart", "cart-1", "--deb", "o")
    assert code == 2 and "tiny.swb: give --repo, where it is signed" in err


def test_a_site_with_tls_needs_its_keys(desk):
    given = tuple(word for word in GIVEN if word not in ("--keys", "keys"))
    code, _, err = desk(*given, "--cart", "cart-1", "--deb", "o")
    assert code == 2 and "give --keys" in err


def test_a_signed_bundle_is_believed_at_the_desk_as_on_the_cart(desk, tmp_path):
    assert desk("keys", "release", "init", "--out", "release")[0] == 0
    assert desk("publish", "tiny.swb", "--repo", "repository", "--keys", "release")[0] == 0
    given = (*GIVEN[:5], "--cart", "cart-1", "--repo", "repository", "--root", "release/root.json")
    code, _, err = desk(*given, "--bundle", "tiny", "--image", "vendor.img", "--out", "cart.img")
    assert code == 0, err
    held = carried(tmp_path / "cart.img", tmp_path)
    config = yaml.safe_load((held / "etc/scanwright/agent.yaml").read_text())
    assert config["bundles"] == [{"slot": "tiny"}] and config["allow_unsigned"] is False
    assert (held / "etc/scanwright/root.json").read_bytes() == Path("release/root.json").read_bytes()
    assert len(list((held / "usr/share/scanwright/repository/targets").iterdir())) == 1
    # Another's root, another name, a changed bundle: nothing is made.
    assert desk("keys", "release", "init", "--out", "other")[0] == 0
    others = (*given[:-1], "other/root.json", "--bundle", "tiny", "--deb", "o")
    (target,) = Path("repository/targets").iterdir()
    for arguments, words in (
        (others, "not signed by enough of the keys"),
        ((*given, "--bundle", "huge", "--deb", "o"), "huge: not in the repository"),
    ):
        code, _, err = desk(*arguments)
        assert code == 2 and words in err and len(err.splitlines()) == 1, err
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    code, _, err = desk(*given, "--bundle", "tiny", "--deb", "o")
    assert code == 2 and "tiny" in err and not Path("o").exists(), err
