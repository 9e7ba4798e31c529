from __future__ import annotations

from dataclasses import dataclass

from edge.mqtt.lane import Lane


@dataclass(frozen=True)
class Sent:
    seq: int
    id: str
    kind: str = "finding"
    topic: str = "t"
    payload: bytes = b""


def test_a_refusal_holds_the_lane_for_a_growing_time():
    lane, now, waits = Lane("finding"), 100.0, []
    for _ in range(9):
        assert lane.refused(now)
        assert not lane.refused(now)
        assert lane.held and not lane.again(now)
        start = now
        while not lane.again(now):
            now += 0.5
        waits.append(now - start)
        lane.rewind()
        assert not lane.held
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_what_is_taken_makes_the_next_refusal_short_again():
    lane = Lane("finding")
    lane.refused(0)
    lane.rewind()
    lane.taken(["a"], 1)
    lane.refused(10)
    assert lane.again(11)


def test_a_rewind_starts_from_the_first_again():
    lane = Lane("finding")
    lane.sent(Sent(7, "a"))
    assert lane.cursor == 7
    lane.rewind()
    assert lane.cursor == 0


def test_messages_without_a_receipt_come_again_and_are_bounded():
    lane = Lane("finding")
    for number in range(990):
        lane.awaits(Sent(number, str(number)), now=0)
    assert lane.room(20) == 10
    assert not lane.again(59) and lane.again(61)
    lane.taken([str(number) for number in range(500)], now=50)
    assert lane.room(20) == 20
    assert not lane.again(61) and lane.again(111)
    lane.rewind()
    lane.awaits(Sent(1, "1"), now=200)
    assert not lane.again(319) and lane.again(321)


def test_with_all_receipts_there_is_nothing_to_repeat():
    lane = Lane("finding")
    lane.awaits(Sent(1, "a"), now=0)
    lane.taken(["a"], now=1)
    assert not lane.again(1e9)
