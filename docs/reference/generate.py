"""Write the generated part of the documentation: JSON Schemas, and the marked blocks of the pages.

``python docs/reference/generate.py`` writes; with ``--check`` it only names what is not current (exit 1).
A block stands in a page between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel, TypeAdapter
from pydicom.uid import UID

from edge.agent.config import AgentConfig
from edge.bundle import steps
from edge.bundle.manifest import Manifest
from edge.bundle.reasons import Reason
from edge.bundle.target import Target, target, target_names
from edge.cli import cli
from edge.mqtt.payloads import Ack, Birth, Command, Event, Finding, Health, Response
from edge.schema import Name
from edge.site import Site
from edge.sources import dicom_scp
from trainer.data.phantoms import LABELS
from trainer.recipe import Recipe, load_recipe, recipe_names

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
CONTRACTS: dict[str, type[BaseModel]] = {
    "ack": Ack,
    "agent-config": AgentConfig,
    "birth": Birth,
    "command": Command,
    "event": Event,
    "finding": Finding,
    "health": Health,
    "manifest": Manifest,
    "recipe": Recipe,
    "response": Response,
    "site": Site,
    "target": Target,
}
NAME = TypeAdapter(Name).json_schema()["pattern"]
MESSAGES = ("finding", "birth", "health", "event", "command", "response", "ack")
Schema = dict[str, Any]


def schema(name: str) -> Schema:
    """The JSON Schema (draft 2020-12) of a contract."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **CONTRACTS[name].model_json_schema(),
    }


def contract_tables(*names: str) -> str:
    """A table of each contract and of each model inside it but the Steps, each model once."""
    parts: dict[str, str] = {}
    for name in names:
        document = schema(name)
        for title, model in [(document["title"], document), *document.get("$defs", {}).items()]:
            if "properties" in model and title not in parts and title not in steps.__all__:
                parts[title] = "\n\n".join([f"### {title}", prose(model), table(model)])
    return "\n\n".join(parts.values())


def prose(model: Schema) -> str:
    return model.get("description", "").replace("``", "`")


def table(model: Schema) -> str:
    rows = ["| field | value | default | |", "| --- | --- | --- | --- |"]
    required = model.get("required", [])
    for name, field in model["properties"].items():
        default = "required" if name in required else code(field.get("default"))
        description = field.get("description", "") if "$ref" not in field else ""
        rows.append(f"| `{name}` | {kind(field)} | {default} | {description} |")
    return "\n".join(rows)


def kind(field: Schema) -> str:
    """What a value may be, in words."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        if name in steps.__all__:
            return f"[{name.lower()}](steps.md#{name.lower()})"
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return code(field["const"])
    if "enum" in field:
        return ", ".join(code(value) for value in field["enum"])
    choices = field.get("anyOf") or field.get("oneOf")
    if choices:
        return " or ".join(kind(choice) for choice in choices)
    if "prefixItems" in field:
        return "[" + ", ".join(kind(item) for item in field["prefixItems"]) + "]"
    if field.get("type") == "array":
        return "list of " + (kind(field["items"]) if "items" in field else "values") + limits(field)
    if field.get("type") == "object":
        value = field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()))
        return "map to " + ("anything" if value is True else kind(value))
    if field.get("pattern") == NAME:
        return "name"
    word = {"string": "text", "null": "null", "integer": "whole number"}.get(field["type"], field["type"])
    return field.get("format", word) + limits(field)


def limits(field: Schema) -> str:
    words = {
        "minimum": "≥ {}",
        "exclusiveMinimum": "> {}",
        "maximum": "≤ {}",
        "exclusiveMaximum": "< {}",
        "minLength": "at least {} long",
        "maxLength": "at most {} long",
        "minItems": "at least {}",
        "maxItems": "at most {}",
        "pattern": "like `{}`",
    }
    found = [text.format(str(field[key]).replace("|", "\\|")) for key, text in words.items() if key in field]
    return " (" + ", ".join(found) + ")" if found else ""


def code(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text if len(text) <= 60 else '…'}`"


def step_list() -> str:
    parts = []
    for name in steps.__all__:
        model = getattr(steps, name)
        if isinstance(model, type):
            document = model.model_json_schema()
            text = "\n".join(line.strip() for line in document["description"].splitlines())
            parts += [f"### `{document['properties']['op']['const']}`", text.replace("``", "`")]
            if len(document["properties"]) > 1:
                parts.append(table(document))
    return "\n\n".join(parts)


def commands() -> str:
    return "\n\n".join(
        f"## `{path}`\n\n```text\n{command.get_help(context)}\n```"
        for path, command, context in walk(cli, "scanwright", None)
    )


def walk(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    settings = {"max_content_width": 100, "terminal_width": 100, **command.context_settings}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if child is not None:
                yield from walk(child, child_name, context)


def target_table() -> str:
    rows = ["| target | board | interpreter | proven |", "| --- | --- | --- | --- |"]
    for name in target_names():
        described = target(name)
        proofs = "; ".join(f"**{proof.by}**: {proof.what}" for proof in described.proven)
        interpreter = f"{described.interpreter} {described.interpreter_version}"
        rows.append(f"| `{name}` | {described.board} | {interpreter} | {proofs} |")
    return "\n".join(rows)


def release_table() -> str:
    rows = ["| target | releases (Python) | threads | memory | latency factor | card image |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for name in target_names():
        one = target(name)
        releases = ", ".join(f"{release.name} ({release.python})" for release in one.releases) or "-"
        figures = f"{one.threads} | {one.memory_mb} MB | {one.latency_factor:g}"
        rows.append(f"| `{name}` | {releases} | {figures} | {one.card or '-'} |")
    return "\n".join(rows)


def topic_table() -> str:
    document = yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text(encoding="utf-8"))
    rows = ["| topic | QoS | retained | payload | |", "| --- | --- | --- | --- | --- |"]
    for operation in document["operations"].values():
        channel = document["channels"][operation["channel"]["$ref"].rsplit("/", 1)[-1]]
        message = document["components"]["messages"][next(iter(channel["messages"]))]
        mqtt = operation["bindings"]["mqtt"]
        retained = "yes" if mqtt.get("retain") else ""
        topic = channel["address"].removeprefix("scanwright/{site}/{device}/")
        about = channel["description"].strip()
        rows.append(f"| `…/{topic}` | {mqtt['qos']} | {retained} | {message['title']} | {about} |")
    return "\n".join(rows)


def reasons() -> str:
    return ", ".join(f"`{reason.value}`" for reason in Reason)


def uid_table(*uids: UID) -> str:
    return "\n".join(["| | UID |", "| --- | --- |", *(f"| {uid.name} | {uid} |" for uid in uids)])


def dicom_statuses(statuses: dict[int, str]) -> str:
    rows = (f"| {status:04X} | {text} |" for status, text in statuses.items())
    return "\n".join(["| status | |", "| --- | --- |", *rows])


def recipe_list() -> str:
    rows = ["| recipe | for | network | input | classes of its phantoms |", "| --- | --- | --- | --- | --- |"]
    for recipe in map(load_recipe, recipe_names()):
        size = recipe.input
        side = f"{size.height} x {size.width}" if size.height else f"the data's, up to {size.largest}"
        network = recipe.model.kind + (f" x {recipe.model.width:g}" if recipe.model.width != 1 else "")
        labels = ", ".join(recipe.labels or LABELS[recipe.phantom])
        rows.append(f"| `{recipe.name}` | {recipe.title} | {network} | {side} x {size.channels} | {labels} |")
    return "\n".join(rows)


BLOCKS = {
    "targets": target_table,
    "commands": commands,
    "steps": step_list,
    "topics": topic_table,
    "reasons": reasons,
    "dicom-classes": lambda: uid_table(dicom_scp.VERIFICATION, *dicom_scp.SOP_CLASSES),
    "dicom-syntaxes": lambda: uid_table(*dicom_scp.TRANSFER_SYNTAXES),
    "dicom-statuses": lambda: dicom_statuses(dicom_scp.STATUSES),
    "dicom-commitment-statuses": lambda: dicom_statuses(dicom_scp.COMMITMENT_STATUSES),
    "manifest": lambda: contract_tables("manifest"),
    "agent-config": lambda: contract_tables("agent-config"),
    "messages": lambda: contract_tables(*MESSAGES),
    "recipe": lambda: contract_tables("recipe"),
    "recipes": recipe_list,
    "site": lambda: contract_tables("site"),
    "target": lambda: contract_tables("target"),
    "target-list": release_table,
}
_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str) -> str:
    return _BLOCK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n\n{found[3]}", page)


def outputs() -> dict[Path, str]:
    """Every generated file or page with its current text."""
    written = {
        REFERENCE / "schemas" / f"{name}.json": json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"
        for name in CONTRACTS
    }
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        written[page] = fill(page.read_text(encoding="utf-8"))
    return written


def main() -> int:
    stale = [
        path
        for path, text in outputs().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" not in sys.argv:
        for path in stale:
            path.write_text(outputs()[path], encoding="utf-8")
        return 0
    for path in stale:
        click.echo(f"{path.relative_to(ROOT)}: not current, run 'make docs'", err=True)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
