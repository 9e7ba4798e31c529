from __future__ import annotations

from pathlib import Path

import pytest

from edge.agent.board import hottest_celsius, throttling, wear_percent
from edge.agent.health import Filling


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_a_machine_without_sensors_says_nothing(tmp_path):
    assert hottest_celsius(tmp_path) is None and wear_percent(tmp_path) is None
    assert throttling(tmp_path) == ()
    put(tmp_path, "class/thermal/thermal_zone0/temp", "nonsense")
    put(tmp_path, "block/mmcblk0/device/life_time", "")
    assert hottest_celsius(tmp_path) is None and wear_percent(tmp_path) is None


def test_the_hottest_zone_and_the_most_worn_memory_count(tmp_path):
    put(tmp_path, "class/thermal/thermal_zone0/temp", "48312\n")
    put(tmp_path, "class/thermal/thermal_zone1/temp", "61000\n")
    put(tmp_path, "block/mmcblk0/device/life_time", "0x02 0x01\n")
    assert hottest_celsius(tmp_path) == 61 and wear_percent(tmp_path) == 20
    put(tmp_path, "block/mmcblk1/device/life_time", "0x0b 0x00\n")
    assert wear_percent(tmp_path) == 100


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("0", ()),
        ("50000", ()),  # only earlier
        ("5", ("under_voltage", "throttled")),
        ("f000a", ("frequency_capped", "soft_temperature_limit")),
    ],
)
def test_a_raspberry_pi_says_why_it_is_slowed_down_now(tmp_path, word, found):
    put(tmp_path, "devices/platform/soc/soc:firmware/get_throttled", word + "\n")
    assert throttling(tmp_path) == found


def test_the_voltage_alarm_counts_where_the_firmware_s_word_is_not_there(tmp_path):
    put(tmp_path, "class/hwmon/hwmon2/in0_lcrit_alarm", "1\n")
    assert throttling(tmp_path) == ("under_voltage",)


def test_the_days_until_the_disk_is_full_follow_how_it_fills():
    filling, hour = Filling(), 3600.0
    assert filling.days(0, 24e9) is None
    assert filling.days(hour / 2, 20e9) is None
    assert filling.days(hour, 23e9) == pytest.approx(23 / 24)
    assert filling.days(2 * hour, 22e9) == pytest.approx(22 / 24)
    assert filling.days(3 * hour, 25e9) is None
