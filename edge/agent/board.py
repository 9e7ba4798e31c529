"""What the board says of itself under Linux; a reading that it does not give is None, or empty."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["Throttling", "hottest_celsius", "on_battery", "throttling", "wear_percent"]

Throttling = Literal["under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"]

_SYS = Path("/sys")
# The low bits of the firmware's word say what is so now (Raspberry Pi documentation, vcgencmd get_throttled).
_BITS: tuple[Throttling, ...] = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")


def hottest_celsius(sys: Path = _SYS) -> float | None:
    """Of all thermal zones, in degrees Celsius."""
    readings = [_integer(zone) for zone in sys.glob("class/thermal/thermal_zone*/temp")]
    return max((reading / 1000 for reading in readings if reading is not None), default=None)


def throttling(sys: Path = _SYS) -> tuple[Throttling, ...]:
    """Why a Raspberry Pi runs slower than it could, now."""
    word = None
    for path in sys.glob("devices/platform/soc*/soc*firmware/get_throttled"):
        word = _integer(path, 16)
    found = {name for bit, name in enumerate(_BITS) if (word or 0) >> bit & 1}
    for alarm in sys.glob("class/hwmon/hwmon*/in0_lcrit_alarm"):  # the driver rpi_volt
        if _integer(alarm):
            found.add("under_voltage")
    return tuple(name for name in _BITS if name in found)


def on_battery(sys: Path = _SYS) -> float | None:
    """What the emptiest battery that is being used up has left, in percent; None on mains or without one."""
    left = []
    for battery in sys.glob("class/power_supply/*"):
        try:
            if (battery / "status").read_text("ascii").strip() == "Discharging":
                left.append(_integer(battery / "capacity"))
        except OSError:
            continue
    return min((float(percent) for percent in left if percent is not None), default=None)


def wear_percent(sys: Path = _SYS) -> float | None:
    """The most worn eMMC's used life by its own count, which goes in steps of ten (JEDEC JESD84-B51,
    DEVICE_LIFE_TIME_EST); SD cards keep none."""
    steps = []
    for path in sys.glob("block/mmcblk*/device/life_time"):
        try:
            steps += [int(word, 16) for word in path.read_text("ascii").split()]
        except (OSError, ValueError):
            continue
    return max((min(100.0, step * 10.0) for step in steps if step), default=None)


def _integer(path: Path, base: int = 10) -> int | None:
    try:
        return int(path.read_text("ascii"), base)
    except (OSError, ValueError):  # a sensor that is off answers with an error
        return None
