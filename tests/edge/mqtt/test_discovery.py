"""What Home Assistant is told of a device is what its documentation asks for, and reads the device right."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
import jsonschema
import pytest

from edge.mqtt.discovery import discovery, discovery_topic
from edge.mqtt.topics import Topics

TOPICS = Topics("clinic-east", "cart-7")

# home-assistant.io/integrations/mqtt, sensor.mqtt and binary_sensor.mqtt: what a message must and may say.
_COMMON = {
    "name": {"type": "string"},
    "unique_id": {"type": "string", "minLength": 1},
    "object_id": {"type": "string", "pattern": "^[a-z0-9_]+$"},
    "state_topic": {"type": "string", "pattern": "^[^+#]+$"},
    "value_template": {"type": "string"},
    "availability": {"$ref": "#/$defs/availability"},
    "expire_after": {"type": "integer", "minimum": 1},
    "entity_category": {"enum": ["diagnostic"]},
}
SCHEMA: dict[str, Any] = {
    "$defs": {
        "availability": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "topic": {"type": "string"},
                    "payload_available": {"type": "string"},
                    "payload_not_available": {"type": "string"},
                },
                "required": ["topic"],
                "additionalProperties": False,
            },
        },
        "sensor": {
            "type": "object",
            "properties": _COMMON
            | {
                "platform": {"const": "sensor"},
                "device_class": {"enum": ["enum", "timestamp", "temperature", "duration"]},
                "options": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "state_class": {"enum": ["measurement", "total", "total_increasing"]},
                "unit_of_measurement": {"type": "string"},
                "suggested_display_precision": {"type": "integer", "minimum": 0},
            },
            "required": ["platform", "unique_id", "state_topic"],
            "additionalProperties": False,
            # options only for an enum, which has neither unit nor state class; units of a duration
            "allOf": [
                {
                    "if": {"properties": {"device_class": {"const": "enum"}}, "required": ["device_class"]},
                    "then": {
                        "required": ["options"],
                        "not": {
                            "anyOf": [{"required": ["unit_of_measurement"]}, {"required": ["state_class"]}]
                        },
                    },
                    "else": {"not": {"required": ["options"]}},
                },
                {
                    "if": {
                        "properties": {"device_class": {"const": "duration"}},
                        "required": ["device_class"],
                    },
                    "then": {"properties": {"unit_of_measurement": {"enum": ["d", "h", "min", "s", "ms"]}}},
                },
            ],
        },
        "binary_sensor": {
            "type": "object",
            "properties": _COMMON
            | {
                "platform": {"const": "binary_sensor"},
                "device_class": {"enum": ["connectivity", "problem"]},
                "payload_on": {"type": "string"},
                "payload_off": {"type": "string"},
            },
            "required": ["platform", "unique_id", "state_topic"],
            "additionalProperties": False,
        },
    },
    "type": "object",
    "properties": {
        "device": {
            "type": "object",
            "properties": {
                "identifiers": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "name": {"type": "string"},
                "manufacturer": {"type": "string"},
                "model": {"type": "string"},
                "sw_version": {"type": "string"},
                "suggested_area": {"type": "string"},
            },
            "required": ["identifiers"],
            "additionalProperties": False,
        },
        "origin": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "sw_version": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "availability": {"$ref": "#/$defs/availability"},
        "components": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "oneOf": [{"$ref": "#/$defs/sensor"}, {"$ref": "#/$defs/binary_sensor"}]
            },
        },
    },
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
}
HEALTH: dict[str, Any] = {
    "stamp": {"clock_trusted": True},
    "backlog": 3,
    "last_result": "2026-11-02T00:00:01Z",
    "temperature_celsius": 61.5,
    "disk_days": None,
    "throttling": [],
    "set_aside": 0,
    "refusing": False,
    "certificate_days": 90.5,
}


def said(**changes: Any) -> dict[str, Any]:
    given = {"agent_version": "1.2.3", "target": "raspberry-pi-5", "health_s": 60.0} | changes
    message: dict[str, Any] = json.loads(discovery(TOPICS, **given))
    return message


def shown(component: str, payload: dict[str, Any], before: str = "negative") -> str:
    """What the component's template gives, rendered as Home Assistant renders it."""
    template = said()["components"][component]["value_template"]
    return jinja2.Environment().from_string(template).render(value_json=payload, this={"state": before})


@pytest.mark.parametrize("target", ["raspberry-pi-5", None])
def test_the_message_is_what_home_assistant_documents(target):
    jsonschema.validate(said(target=target), SCHEMA)


def test_the_topic_is_one_that_home_assistant_reads():
    matcher = r"homeassistant/(?P<component>\w+)/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config"
    found = re.fullmatch(matcher, discovery_topic("homeassistant", TOPICS))
    assert found and found["component"] == "device"


def test_two_devices_share_no_identity():
    other = json.loads(discovery(Topics("clinic-east", "cart-8"), "1", None, 60))
    mine = {one["unique_id"] for one in said()["components"].values()}
    assert not mine & {one["unique_id"] for one in other["components"].values()}
    assert said()["device"]["identifiers"] != other["device"]["identifiers"]


def test_being_away_shows_as_off_and_everything_else_as_unavailable():
    message = said()
    assert message["components"]["connected"]["availability"] == []
    assert [one["topic"] for one in message["availability"]] == [TOPICS.availability]
    assert all(
        "availability" not in one for name, one in message["components"].items() if name != "connected"
    )


def test_figures_are_the_health_messages_and_what_is_not_known_is_none():
    assert shown("backlog", HEALTH) == "3"
    assert shown("temperature", HEALTH) == "61.5"
    assert shown("storage_days", HEALTH) == "None"
    assert shown("certificate_days", HEALTH) == "90.5"


def test_figures_are_forgotten_when_three_health_messages_are_missed():
    assert said(health_s=600.0)["components"]["backlog"]["expire_after"] == 1800


@pytest.mark.parametrize(
    "changes",
    [
        {"refusing": True},
        {"set_aside": 1},
        {"throttling": ["under_voltage"]},
        {"certificate_days": 13.9},
        {"stamp": {"clock_trusted": False}},
    ],
)
def test_a_problem_is_what_somebody_has_to_look_at(changes):
    assert shown("problem", HEALTH | changes) == "ON"


@pytest.mark.parametrize("changes", [{}, {"certificate_days": None}])
def test_a_cart_that_is_well_has_no_problem(changes):
    assert shown("problem", HEALTH | changes) == "OFF"


def test_the_last_finding_is_no_practice_and_no_late_one():
    finding = {"decision": "positive", "test": False, "backfill": False}
    assert shown("last_finding", finding) == "positive"
    assert shown("last_finding", finding | {"test": True}) == "negative"
    assert shown("last_finding", finding | {"backfill": True}) == "negative"
