"""The board's power: a supply that sags, or a battery (UPS) that runs low, is told before the cart ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge.agent.board import on_battery, throttling
from edge.agent.recorder import Recorder

__all__ = ["LOW_PERCENT", "Power"]

LOW_PERCENT = 20.0
"""Told below this; at half of it the unit ``scanwright-power`` stops the machine cleanly."""

_LOOK_S = 10.0


class Power:
    """Looks when asked to, and tells what changed."""

    def __init__(
        self,
        recorder: Recorder,
        monotonic_s: Callable[[], float] = time.monotonic,
        sys: Path = Path("/sys"),
    ) -> None:
        self._recorder, self._monotonic_s, self._sys = recorder, monotonic_s, sys
        self._next = float("-inf")
        self._sagging = self._low = False

    def look(self) -> None:
        """Look, at most once in ten seconds."""
        now_s = self._monotonic_s()
        if now_s < self._next:
            return
        self._next = now_s + _LOOK_S
        sagging = "under_voltage" in throttling(self._sys)
        if sagging and not self._sagging:
            message = (
                "the board's supply gives too little: take the vendor's own, and a short cable;"
                " after ten minutes of it the cart stops by itself"
            )
            self._recorder.tell("warning", "under_voltage", message)
        percent = on_battery(self._sys)
        low = percent is not None and percent <= LOW_PERCENT
        if low and not self._low and percent is not None:
            message = f"on battery, {percent:.0f} % left; the cart stops by itself at {LOW_PERCENT / 2:.0f} %"
            self._recorder.tell("warning", "battery_low", message, {"percent": percent})
        self._sagging, self._low = sagging, low
