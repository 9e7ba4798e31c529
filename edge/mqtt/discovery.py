"""Home Assistant's MQTT discovery: one retained message by which it knows a device and what to show of it.

Source: home-assistant.io/integrations/mqtt, "MQTT discovery", device discovery (Home Assistant 2024.11 and
later).
"""

from __future__ import annotations

import json
from typing import Any

from edge.mqtt.topics import OFFLINE, ONLINE, Topics

__all__ = ["CERTIFICATE_DAYS", "discovery", "discovery_topic"]

CERTIFICATE_DAYS = 14
"""So many days before its certificate ends a device has a problem."""

_MISSED = 3  # so many health messages may be missed before what they said counts no longer
_PROBLEM = (
    "value_json.refusing or value_json.set_aside > 0 or value_json.throttling"
    f" or (value_json.certificate_days is not none and value_json.certificate_days < {CERTIFICATE_DAYS})"
    " or not value_json.stamp.clock_trusted"
)
_DIAGNOSTIC = {"entity_category": "diagnostic"}


def discovery_topic(prefix: str, topics: Topics) -> str:
    """Where the message goes, retained; an empty one there removes the device.

    ``prefix`` is what Home Assistant listens below. The device's name is a level of its own, so that an
    access list can have ``%u`` there.
    """
    return f"{prefix}/device/scanwright-{topics.site}/{topics.device}/config"


def discovery(topics: Topics, agent_version: str, target: str | None, health_s: float) -> bytes:
    """The message: a device with its sensors, each read from the messages that the device sends anyway.

    What is late or made for practice never shows as the last finding. ``health_s``: seconds between two
    health messages.
    """
    me = f"scanwright-{topics.site}-{topics.device}"
    expire = {"expire_after": max(60, round(_MISSED * health_s))}

    def measured(name: str, field: str, **more: Any) -> dict[str, Any]:
        said = {"platform": "sensor", "name": name, "state_topic": topics.health}
        said["value_template"] = f"{{{{ value_json.{field} }}}}"
        return said | expire | more

    days = {"device_class": "duration", "unit_of_measurement": "d", "suggested_display_precision": 0}
    components: dict[str, dict[str, Any]] = {
        "connected": {
            "platform": "binary_sensor",
            "name": "Connected",
            "device_class": "connectivity",
            "state_topic": topics.availability,
            "payload_on": ONLINE,
            "payload_off": OFFLINE,
            "availability": [],  # it must be seen to be off, not unavailable
            **_DIAGNOSTIC,
        },
        "problem": {
            "platform": "binary_sensor",
            "name": "Problem",
            "device_class": "problem",
            "state_topic": topics.health,
            "value_template": f"{{{{ 'ON' if {_PROBLEM} else 'OFF' }}}}",
            **expire,
            **_DIAGNOSTIC,
        },
        "last_finding": {
            "platform": "sensor",
            "name": "Last finding",
            "device_class": "enum",
            "options": ["positive", "negative", "no_result"],
            "state_topic": topics.finding,
            "value_template": "{{ this.state if value_json.test or value_json.backfill"
            " else value_json.decision }}",
        },
        "last_result": measured("Last result", "last_result", device_class="timestamp"),
        "backlog": measured("Backlog", "backlog", state_class="measurement", unit_of_measurement="messages"),
        "temperature": measured(
            "Temperature",
            "temperature_celsius",
            device_class="temperature",
            state_class="measurement",
            unit_of_measurement="°C",
            **_DIAGNOSTIC,
        ),
        "storage_days": measured("Storage full in", "disk_days", **days, **_DIAGNOSTIC),
        "certificate_days": measured("Certificate ends in", "certificate_days", **days, **_DIAGNOSTIC),
    }
    device = {
        "identifiers": [me],
        "name": f"{topics.site} {topics.device}",
        "manufacturer": "scanwright",
        "model": target,
        "sw_version": agent_version,
        "suggested_area": topics.site,
    }
    said = {
        "device": {key: value for key, value in device.items() if value is not None},
        "origin": {"name": "scanwright", "sw_version": agent_version},
        "availability": [
            {
                "topic": topics.availability,
                "payload_available": ONLINE,
                "payload_not_available": OFFLINE,
            }
        ],
        "components": {
            name: one | {"unique_id": f"{me}-{name}", "object_id": f"{me}_{name}".replace("-", "_")}
            for name, one in components.items()
        },
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
