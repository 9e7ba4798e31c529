"""What is lost when agent, broker and receiver are killed at random moments while frames arrive.

    python benchmarks/kills.py [--kills 1000] [--broker-kills 50] [--receiver-kills 50] [--json FILE]

All are the real programs and all kills are SIGKILL. The broker keeps nothing on the disk; the agent waits for
the receipts of ``scanwright monitor``. A life lasts up to three times as long as this machine took, before,
from an agent's start to its first finding, and up to four frames come in it: so kills fall on starts and on
work alike, also on a busy machine (``life_s``, and ``starved``: lives in which no finding was made).
Each frame is like no other, so it must give one finding:
``distinct_ids`` counts those that the monitor has stored, ``lost`` the frames without one (0), ``waiting``
what the agent still holds at the end (0), and ``duplicates`` how often a subscriber heard an id again.
Ends with exit code 1 if a frame was lost or gave two ids.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from parts import Cart, Part, broker, receiver, rows, until

LIVES = 3.0  # most that an agent lives, in times from its start to its first finding
FRAMES = 4  # most that come in a life
FIRST_S = 120.0
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
    try:

        def made() -> int:
            return len(rows(cart.database, "SELECT 1 FROM finding"))

        cart.feed()
        began = time.monotonic()
        cart.start()
        if not until(lambda: made() == 1, FIRST_S, cart, bus, monitor):
            raise RuntimeError("the agent found nothing")
        life_s, starved, before = LIVES * (time.monotonic() - began), 0, 1
        for victim in victims:
            life = chance.uniform(0, life_s)
            moments = sorted(chance.uniform(0, life) for _ in range(chance.randint(0, FRAMES)))
            began = time.monotonic()
            for moment in (*moments, life):
                time.sleep(max(0.0, began + moment - time.monotonic()))
                if moment is not life:
                    cart.feed()
            for part in (cart, bus, monitor):
                part.alive()
            victim.kill()
            victim.start()
            starved, before = starved + (made() == before), made()

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
            "kills": kills,
            "broker_kills": broker_kills,
            "receiver_kills": receiver_kills,
            "life_s": round(life_s, 1),
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
