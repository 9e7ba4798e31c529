from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from edge.mqtt.meter import Meter, carried


class Day:
    now = "2026-11-26"

    def __call__(self) -> str:
        return self.now


def test_without_a_cap_everything_goes():
    meter = Meter(None, Day())
    meter.add(10**12)
    assert meter.allows("overlay") and meter.allows("connection")


def test_findings_go_longer_than_events_than_overlays_and_the_connection_longest():
    meter, order = Meter(1000, Day()), []
    kinds = ["overlay", "event", "finding", "connection"]
    for _ in range(1000):
        meter.add(1)
        order += [kind for kind in kinds if kind not in order and not meter.allows(kind)]
    assert order == kinds and meter.used == 1000
    assert not Meter(1000, Day()).allows("finding", 950)


def test_the_next_day_begins_anew_and_a_clock_that_falls_back_does_not():
    day = Day()
    meter = Meter(1000, day)
    meter.add(1000)
    day.now = "2016-11-26"
    assert not meter.allows("connection")
    day.now = "2026-11-27"
    assert meter.allows("overlay") and meter.used == 0


@given(st.lists(st.integers(0, 5000), max_size=200), st.integers(0, 199))
def test_a_kill_at_any_moment_makes_the_count_no_smaller_and_little_larger(counts, killed_at):
    day, kept = Day(), [("", 0)]
    meter = Meter(100_000, day, kept[0], lambda d, n: kept.append((d, n)))
    for count in counts[:killed_at]:
        meter.add(count)
    again = Meter(100_000, day, kept[-1])
    assert meter.used <= again.used <= meter.used + 1000


def test_the_kernel_counts_what_a_connection_carries():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        before = carried(client)
        client.sendall(b"x" * 10_000)
        received = 0
        while received < 10_000:
            received += len(peer.recv(65536))
        peer.sendall(b"y" * 500)
        client.recv(500)
        assert 10_500 <= carried(client) - before < 11_500
        client.close()
        peer.close()
        assert carried(client) == 0
