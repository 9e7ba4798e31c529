"""The how-tos of flashing are followed word by word; only disk, image and bundle are this test's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from card_images import MIB, pi_image, root_tree

from edge.cli import main
from trainer.flashing import image as image_module
from trainer.flashing import making

pytestmark = pytest.mark.integration

DOCS = Path(__file__).parents[2] / "docs/how-to"


def commands(page: str) -> list[list[str]]:
    text = (DOCS / page).read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
        for line in block.splitlines()
    ]
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]


def sites(page: str) -> list[str]:
    return re.findall(
        r"^```yaml\n(# SITE\.yaml\n.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S
    )


def follow(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words[1:])
    assert not exit_.value.code, shlex.join(words)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_module, "_ROOT_GROWTH", 4 * MIB)
    monkeypatch.setattr(image_module, "_DATA", 16 * MIB)
    agent = Path("agent/scanwright_0.1.0_arm64.deb")
    agent.parent.mkdir()
    agent.write_bytes(b"agent" * 100)
    monkeypatch.setattr(making, "agent_for", lambda *_: agent)
    for target in ("raspberry-pi-5", "generic-amd64"):
        tiny_bundle(Path(f"portable-chest-1.0.0-{target}.swb"), name="portable-chest", target=target)
    return tmp_path


def test_flash_a_card(desk, monkeypatch):
    if os.geteuid():
        pytest.skip("needs root for a loop device")
    Path("SITE.yaml").write_text(sites("flash-a-card.md")[0])
    Path("CARTS.csv").write_text("device,like\nward-1,cart-07\nward-2,cart-08\n")
    pi_image(Path("raspios-lite.img.xz"), root_tree(Path("root")))
    Path("card").write_bytes(bytes(80 * MIB))
    losetup = ["losetup", "--find", "--show", "card"]
    disk = subprocess.run(losetup, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    try:
        for words in commands("flash-a-card.md"):
            if words[0] == "sudo":
                at = words.index("/dev/sda")
                words = [*words[1:at], disk, "--any-disk", "--yes"]
            follow(words)
    finally:
        subprocess.run(["losetup", "--detach", disk], check=True, timeout=30)
    made = {"cart-07.img", "cart-07-new.img", "cart-07-label.svg", "cards/ward-1.img", "cards/ward-2.img"}
    assert all(Path(name).is_file() for name in made)
    assert Path("card").read_bytes()[510:512] == b"\x55\xaa"


def test_install_packages(desk):
    text = sites("flash-a-card.md")[0].replace("cart-07", "desk-1").replace("raspberry-pi-5", "generic-amd64")
    Path("SITE.yaml").write_text(text)
    followed = [words for words in commands("install-packages.md") if words[0] == "scanwright"]
    for words in followed:
        follow(words)
    # The rest of the page is followed on a real system by test_install.py.
    assert sorted(path.suffix for path in Path("packages").iterdir()) == [".deb", ".deb", ".svg"]


def test_run_a_gateway(desk):
    Path("SITE.yaml").write_text(sites("flash-a-card.md")[0])
    first, second, engine, third = commands("run-a-gateway.md")
    follow(first)
    follow(second)
    assert engine[0] == "docker" and Path("gateway/compose.yaml").is_file()
    Path("SITE.yaml").write_text(sites("run-a-gateway.md")[0])
    Path("keys/headquarters").rename("from-headquarters")
    follow(third)
    assert "connection headquarters" in Path("gateway/mosquitto/mosquitto.conf").read_text()
