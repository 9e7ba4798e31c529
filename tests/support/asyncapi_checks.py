"""Check what stands on a topic against docs/reference/asyncapi.yaml, as a stranger reading it would."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

__all__ = ["document", "resolve", "validate_payload"]

REFERENCE = Path(__file__).parents[2] / "docs/reference"
PNG = b"\x89PNG\r\n\x1a\n"


@cache
def document() -> dict[str, Any]:
    return yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text(encoding="utf-8"))


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a ``$ref`` into the document or into the schema file that it names."""
    reference = node.get("$ref")
    if reference is None:
        return node
    if not reference.startswith("#/"):
        return json.loads((REFERENCE / reference).read_text(encoding="utf-8"))
    found: Any = document()
    for part in reference[2:].split("/"):
        found = found[part]
    return resolve(found)


def channel_of(topic: str) -> str:
    for name, channel in document()["channels"].items():
        pattern = re.sub(r"\\{[a-z]+\\}", "[^/]+", re.escape(channel["address"]))
        if re.fullmatch(pattern, topic):
            return name
    raise AssertionError(f"topic {topic} is in no channel of the AsyncAPI document")


def validate_payload(topic: str, payload: bytes) -> str:
    """Assert that the payload is what the document says of the topic; return the channel's name."""
    name = channel_of(topic)
    (message,) = (resolve(m) for m in document()["channels"][name]["messages"].values())
    content = message.get("contentType", document()["defaultContentType"])
    if content == "image/png":
        assert payload.startswith(PNG), f"{topic}: not a PNG"
        return name
    value = payload.decode() if content == "text/plain" else json.loads(payload)
    validator = jsonschema.Draft202012Validator(
        resolve(message["payload"]), format_checker=jsonschema.FormatChecker()
    )
    problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not problems, f"{topic}: {problems}"
    return name
