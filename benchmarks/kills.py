"""What is lost when agent, broker and receiver are killed at random moments while frames arrive.

    python benchmarks/kills.py [--kills 1000] [--broker-kills 50] [--receiver-kills 50] [--json FILE]

All are the real programs and all kills are SIGKILL. The broker keeps nothing on the disk; the agent waits for
the receipts of ``scanwright monitor``. Half of the lives end within a second, which is in the agent's start;
the others once it has made a few findings more, at a moment that is random to its work. So also a busy
machine, on which a start takes longer than any fixed time, is killed at work: ``starved`` counts the lives
that made no finding at all.
Each frame is like no other, so it must give one finding:
``distinct_ids`` counts those that the monitor has stored, ``lost`` the frames without one (0), ``waiting``
what the agent still holds at the end (0), and ``duplicates`` how often a subscriber heard an id again.
Ends with exit code 1 if a frame was lost or gave two ids. Ctrl-C or SIGTERM ends the killing: what was done
by then is reported.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import click
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from parts import Cart, Part, broker, receiver, rows, until

START_S = 1.0  # half of the lives end within it
FRAMES = 4  # most that come in a life, and that the other half makes
AT_WORK_S, MOMENT_S = 120.0, 0.2
STILL_S = 120.0  # after the last kill: without any progress for so long, what is missing is lost


def listen(port: int, heard: Counter[str]) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, "listener", protocol=MQTTProtocolVersion.MQTTv5)
    client.reconnect_delay_set(0.05, 0.2)
    client.on_connect = lambda client, *_: client.subscribe("scanwright/+/+/up/finding", qos=1)
    client.on_message = lambda _client, _data, message: heard.update([json.loads(message.payload)["id"]])
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


def run(folder: Path, kills: int, broker_kills: int, receiver_kills: int, seed: int) -> dict[str, object]:
    chance = random.Random(seed)
    bus, port = broker(folder)
    monitor, store = receiver(folder, port)
    cart = Cart(folder / "cart", port, folder / "cart" / "state")
    bus.start()
    until(lambda: b"running" in bus.log.read_bytes(), 10, bus)
    monitor.start()
    heard: Counter[str] = Counter()
    listener = listen(port, heard)
    started = time.monotonic()
    victims: list[Part] = [cart] * kills + [bus] * broker_kills + [monitor] * receiver_kills
    chance.shuffle(victims)
    done: Counter[Part] = Counter()
    enough = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: enough.set())
    cart.start()
    try:

        def made() -> int:
            return len(rows(cart.database, "SELECT 1 FROM finding"))

        starved, before = 0, 0
        for victim in victims:
            if enough.is_set():
                break
            for _ in range(chance.randint(0, FRAMES)):
                cart.feed()
            if chance.random() < 0.5:
                time.sleep(chance.uniform(0, START_S))
            else:
                wanted = min(before + chance.randint(1, FRAMES), cart.fed)
                until(lambda wanted=wanted: made() >= wanted, AT_WORK_S, cart, bus, monitor)
                time.sleep(chance.uniform(0, MOMENT_S))
            for part in (cart, bus, monitor):
                part.alive()
            victim.kill()
            done[victim] += 1
            starved, before = starved + (made() == before), made()
            victim.start()

        def told() -> list[tuple[object, ...]]:
            return rows(store, "SELECT id, json_extract(payload, '$.study') FROM finding")

        def waiting() -> int:
            return len(rows(cart.database, "SELECT 1 FROM outbox WHERE kind = 'finding'"))

        def settled() -> bool:
            return len(told()) >= cart.fed and waiting() == 0

        before = -1
        while not settled() and len(told()) > before:  # as long as anything moves
            before = len(told())
            until(settled, STILL_S, cart, bus, monitor)
        found = told()
        result = {
            "kills": done[cart],
            "broker_kills": done[bus],
            "receiver_kills": done[monitor],
            "starved": starved,
            "frames": cart.fed,
            "distinct_ids": len({id_ for id_, _ in found}),
            "lost": cart.fed - len({study for _, study in found}),
            "waiting": waiting(),
            "duplicates": sum(heard.values()) - len(heard),
            "seconds": round(time.monotonic() - started),
        }
    finally:
        listener.disconnect()
        listener.loop_stop()
        for part in (cart, monitor, bus):
            part.kill()
    return result


@click.command()
@click.option("--kills", default=1000, show_default=True, help="Of the agent.")
@click.option("--broker-kills", default=50, show_default=True, help="Of the broker.")
@click.option("--receiver-kills", default=50, show_default=True, help="Of the receiver.")
@click.option("--seed", default=0, show_default=True, help="Of the moments and the order.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there, too.")
def main(kills: int, broker_kills: int, receiver_kills: int, seed: int, path: Path | None) -> None:
    """Print what was fed, told, lost and told again."""
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), kills, broker_kills, receiver_kills, seed)
    text = json.dumps(result)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")
    sys.exit(bool(result["lost"] or result["waiting"] or result["distinct_ids"] != result["frames"]))


if __name__ == "__main__":
    main()
