"""The contracts as documented are the contracts as they are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from asyncapi_checks import document, resolve, validate_payload
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.target import target, target_names
from edge.errors import BadInputError
from edge.mqtt import payloads
from edge.mqtt.topics import Topics
from trainer.recipe import load_recipe, recipe_names

ROOT = Path(__file__).parents[1]
SCHEMAS = sorted((ROOT / "docs/reference/schemas").glob("*.json"))
MODELS = {name.lower(): getattr(payloads, name) for name in payloads.__all__}


def test_generated_reference_is_current():
    done = subprocess.run(
        [sys.executable, "docs/reference/generate.py", "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_schemas_are_json_schemas(path):
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", target_names())
def test_every_shipped_target_parses_and_has_the_name_of_its_file(name):
    assert target(name).name == name


def test_no_file_of_the_firmware_configs_is_left_out():
    folder = ROOT / "firmware_configs"
    tops = {path.name for path in folder.iterdir()} - {"__pycache__", "__init__.py"}
    assert {name for name in tops if name.endswith(".yaml")} == {f"{name}.yaml" for name in target_names()}
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    for inner in tops - {f"{name}.yaml" for name in target_names()}:
        for path in (folder / inner).iterdir():
            assert any(path.name in text for text in tests), f"{path}: no test names it"


@pytest.mark.parametrize("name", target_names())
def test_a_target_that_carts_are_made_of_says_what_its_systems_need(name):
    one = target(name)
    assert (one.architecture == "wasm32") == (not one.releases)
    assert one.threads <= 4 and (not one.releases or one.agent_memory_limit_mb < one.memory_mb)
    for release in one.releases:
        assert one.release(release.name) is release
    with pytest.raises(BadInputError, match=f"'{name}' has no release 'woody'"):
        one.release("woody")


def test_a_proof_by_a_board_is_never_claimed_beside_none():
    for name in target_names():
        kinds = {proof.by for proof in target(name).proven}
        assert kinds
        assert kinds == {"none"} or "none" not in kinds


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_parses_and_has_the_name_of_its_file(name):
    assert load_recipe(name).name == name


def test_asyncapi_channels_are_the_topics():
    topics = Topics("{site}", "{device}")
    said = {channel["address"] for channel in document()["channels"].values()}
    assert said == {
        topics.availability,
        topics.birth,
        topics.finding,
        topics.health,
        topics.event,
        topics.overlay("{finding}"),
        topics.response("{command}"),
        topics.command("{command}"),
        topics.ack,
    }


def test_asyncapi_document_hangs_together():
    api = document()
    assert api["asyncapi"].startswith("3.")
    assert {operation["channel"]["$ref"] for operation in api["operations"].values()} == {
        f"#/channels/{name}" for name in api["channels"]
    }
    for name, channel in api["channels"].items():
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel["parameters"]), name
        for part in [*channel["parameters"].values(), *channel["messages"].values()]:
            assert resolve(part)
    for operation in api["operations"].values():
        address = resolve(operation["channel"])["address"]
        assert operation["action"] == ("send" if "/up/" in address else "receive")
        assert operation["bindings"]["mqtt"]["qos"] in (0, 1)


EXAMPLES = [
    (name, example["payload"])
    for name, message in document()["components"]["messages"].items()
    for example in message.get("examples", [])
]


@pytest.mark.parametrize(("name", "payload"), EXAMPLES)
def test_asyncapi_examples_fit_their_schema_and_their_model(name, payload):
    address = document()["channels"][name]["address"]
    topic = re.sub(r"\{\w+\}", "x", address)
    raw = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    assert validate_payload(topic, raw) == name
    if name in MODELS:
        model = MODELS[name].model_validate_json(raw)
        # What the device writes of it is what the schema says, defaults included.
        assert validate_payload(topic, model.model_dump_json().encode()) == name


def test_every_message_has_an_example():
    assert {name for name, _ in EXAMPLES} == set(document()["components"]["messages"]) - {"overlay"}


@given(payload=st.binary(max_size=64))
def test_whatever_is_no_finding_is_refused_by_the_check(payload):
    with pytest.raises((AssertionError, ValueError)):
        validate_payload("scanwright/demo/cart-1/up/finding", payload)


def test_an_unknown_topic_is_refused_by_the_check():
    with pytest.raises(AssertionError, match="no channel"):
        validate_payload("scanwright/demo/cart-1/up/finding/extra", b"{}")
