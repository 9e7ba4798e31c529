"""A day of a busy cart with a fault in every hour, in minutes: is anything lost, does anything grow?

    python benchmarks/day.py [--hours 24] [--speed 144] [--json FILE]

Real programs: mosquitto, the agent, ``scanwright monitor`` with receipts. Simulated hours pass ``speed``
times faster, and so do the intervals that the configuration names. An image comes every minute and a half;
each hour has its fault, in turn: the broker is killed, the receiver is killed, the configuration is read
again, the disk counts as full, files are broken, commands are nonsense. ``memory_mb`` and ``descriptors`` are
those of the agent's process in the calm at the end of each hour; ``growth_mb`` and ``growth_descriptors`` are
the largest less the smallest after the first hours, in which Python and SQLite fill their caches. Ends with
exit code 1 if a finding was lost, memory grew by more than 5 MB or descriptors by more than 4.
"""

from __future__ import annotations

import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import yaml
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from parts import DEVICE, SITE, Cart, Part, broker, receiver, rows, until

IMAGE_S, FAULT_S, CALM_S = 90.0, 600.0, 1800.0  # simulated: between images, a fault lasts, then it is calm
WARM_HOURS = 4
GROWTH_MB, GROWTH_DESCRIPTORS = 5.0, 4
LAST_S = 300.0
NONSENSE = (b"", b"{", b"[]", b'{"correlation_id":"x"}', b"\xff" * 2000, b'{"arguments":{"a":{}}}')


class Day:
    """The parts, and the faults that befall them."""

    def __init__(self, folder: Path, speed: float) -> None:
        self.speed, self.folder = speed, folder
        self.bus, self.port = broker(folder)
        self.monitor, self.store = receiver(folder, self.port)
        self.cart = Cart(folder / "cart", self.port, folder / "cart" / "state")
        self.path = folder / "cart" / "agent.yaml"
        self.config = yaml.safe_load(self.path.read_text("utf-8"))
        self.config |= {"health_s": 60 / speed, "study_silence_s": 30 / speed, "log_level": "error"}
        self.broken = 0
        self.faults: list[Callable[[], Callable[[], None] | None]] = [
            lambda: self._away(self.bus),
            lambda: self._away(self.monitor),
            self._reload,
            self._full,
            self._broken_files,
            self._nonsense,
        ]

    def start(self) -> None:
        self._write()
        self.bus.start()
        until(lambda: b"running" in self.bus.log.read_bytes(), 10, self.bus)
        self.monitor.start()
        self.cart.start()
        if not until(lambda: bool(rows(self.cart.database, "SELECT 1 FROM audit")), 60, self.cart):
            raise RuntimeError("the agent did not start")

    def stop(self) -> None:
        for part in (self.cart, self.monitor, self.bus):
            part.kill()

    def pass_(self, simulated_s: float) -> None:
        """Let time pass, with its images."""
        end = time.monotonic() + simulated_s / self.speed
        while (now := time.monotonic()) < end:
            self.cart.feed()
            time.sleep(min(IMAGE_S / self.speed, max(0.0, end - now)))

    def memory_mb(self) -> float:
        assert self.cart.process
        lines = Path(f"/proc/{self.cart.process.pid}/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000

    def descriptors(self) -> int:
        assert self.cart.process
        return len(list(Path(f"/proc/{self.cart.process.pid}/fd").iterdir()))

    def _away(self, part: Part) -> Callable[[], None]:
        part.kill()
        return part.start

    def _reload(self) -> None:
        assert self.cart.process
        self._write()
        self.cart.process.send_signal(signal.SIGHUP)

    def _full(self) -> Callable[[], None]:
        room = self.config["min_free_mb"]
        self.config["min_free_mb"] = 10**9
        self._reload()

        def again() -> None:
            self.config["min_free_mb"] = room
            self._reload()

        return again

    def _broken_files(self) -> None:
        whole = next(self.cart.drop.glob("*.png")).read_bytes()
        for _ in range(5):
            self.broken += 1
            # Each cut is of another picture, so that each is another file.
            (self.cart.drop / f"broken-{self.broken}.png").write_bytes(
                whole[: len(whole) // 2] + bytes([self.broken % 256])
            )

    def _nonsense(self) -> None:
        client = Client(CallbackAPIVersion.VERSION2, "stranger", protocol=MQTTProtocolVersion.MQTTv5)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        for payload in NONSENSE * 5:
            client.publish(f"scanwright/{SITE}/{DEVICE}/down/command/ping", payload, qos=1)
        client.publish(f"scanwright/{SITE}/{DEVICE}/down/ack", b"no ack", qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()

    def _write(self) -> None:
        self.path.write_text(yaml.safe_dump(self.config), encoding="utf-8")


def run(folder: Path, hours: int, speed: float) -> dict[str, object]:
    day = Day(folder, speed)
    started = time.monotonic()
    memory, descriptors = [], []
    day.start()
    try:
        for hour in range(hours):
            fault = day.faults[hour % len(day.faults)]
            day.pass_(3600 - FAULT_S - CALM_S)
            end = fault()
            day.pass_(FAULT_S)
            if end:
                end()
            day.pass_(CALM_S)
            samples = []
            for _ in range(5):
                time.sleep(0.1)
                samples.append((day.memory_mb(), day.descriptors()))
            memory.append(round(statistics.median(m for m, _ in samples), 1))
            descriptors.append(round(statistics.median(d for _, d in samples)))
            for part in (day.cart, day.bus, day.monitor):
                part.alive()

        expected = day.cart.fed + day.broken

        def stored() -> int:
            return len(rows(day.store, "SELECT 1 FROM finding"))

        def waiting() -> int:
            return len(rows(day.cart.database, "SELECT 1 FROM outbox WHERE kind = 'finding'"))

        until(lambda: stored() >= expected and waiting() == 0, LAST_S, day.cart, day.bus, day.monitor)
        warm = min(WARM_HOURS, hours - 1)
        return {
            "hours": hours,
            "images": expected,
            "lost": expected - stored(),
            "waiting": waiting(),
            "memory_mb": memory,
            "descriptors": descriptors,
            "growth_mb": round(max(memory[warm:]) - min(memory[warm:]), 1),
            "growth_descriptors": max(descriptors[warm:]) - min(descriptors[warm:]),
            "seconds": round(time.monotonic() - started),
        }
    finally:
        day.stop()


@click.command()
@click.option("--hours", default=24, show_default=True, help="Simulated.")
@click.option("--speed", default=144.0, show_default=True, help="Simulated seconds in one.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there, too.")
def main(hours: int, speed: float, path: Path | None) -> None:
    """Print what a day cost."""
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), hours, speed)
    text = json.dumps(result)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")
    grew = result["growth_mb"] > GROWTH_MB or result["growth_descriptors"] > GROWTH_DESCRIPTORS  # type: ignore[operator]
    sys.exit(bool(result["lost"] or result["waiting"] or grew))


if __name__ == "__main__":
    main()
