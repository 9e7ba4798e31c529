from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.agent.power import Power


class Told:
    """Stands where the recorder does, and remembers."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def tell(self, _severity: str, code: str, _message: str, _data: Any = None) -> None:
        self.codes.append(code)


def put(sys: Path, path: str, text: str) -> None:
    (sys / path).parent.mkdir(parents=True, exist_ok=True)
    (sys / path).write_text(text)


def test_a_sagging_supply_and_a_low_battery_are_told_once_each_time(tmp_path):
    told, now = Told(), [0.0]
    power = Power(told, lambda: now[0], tmp_path)  # type: ignore[arg-type]

    def look() -> list[str]:
        now[0] += 10
        power.look()
        found, told.codes = told.codes, []
        return found

    word = "devices/platform/soc/soc:firmware/get_throttled"
    assert look() == []
    put(tmp_path, word, "1")
    put(tmp_path, "class/power_supply/ups/status", "Discharging\n")
    put(tmp_path, "class/power_supply/ups/capacity", "21")
    assert look() == ["under_voltage"] and look() == []
    put(tmp_path, "class/power_supply/ups/capacity", "20")
    assert look() == ["battery_low"] and look() == []
    put(tmp_path, word, "0")
    put(tmp_path, "class/power_supply/ups/status", "Charging\n")
    assert look() == []
    put(tmp_path, word, "1")
    put(tmp_path, "class/power_supply/ups/status", "Discharging\n")
    assert look() == ["under_voltage", "battery_low"]


def test_it_looks_no_more_than_once_in_ten_seconds(tmp_path):
    told, now = Told(), [0.0]
    power = Power(told, lambda: now[0], tmp_path)  # type: ignore[arg-type]
    power.look()
    put(tmp_path, "devices/platform/soc/soc:firmware/get_throttled", "1")
    now[0] = 9.9
    power.look()
    assert told.codes == []
