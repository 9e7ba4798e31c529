"""What every contract file has in common: strict models, read from YAML or JSON with one-line errors."""

from __future__ import annotations

import difflib
import json
import re
import types
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edge.errors import BadInputError

__all__ = ["Contract", "Label", "Name", "Probability", "is_name", "parse", "read"]

_NAME = r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=_NAME)]
"""A name safe in file names, MQTT topics and host names: lower case, digits and inner hyphens, at most 64."""

Label = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]
Probability = Annotated[float, Field(ge=0, le=1)]


class Contract(BaseModel):
    """Base of all contract models: unknown keys are refused, instances are immutable, NaN is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants")


def is_name(text: str) -> bool:
    """Whether a text is a :data:`Name`."""
    return re.fullmatch(_NAME, text) is not None


Model = TypeVar("Model", bound=BaseModel)


def read(path: Path, model: type[Model]) -> Model:
    """Read a YAML (or JSON) file into ``model``.

    Raises:
        BadInputError: the file is missing, unreadable, not YAML, or does not fit the model; the message
            is one line naming the file, the field and, for a misspelt key, the nearest known one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadInputError(f"{path}: cannot be read ({reason})") from error
    return parse(text, model, str(path))


def parse(text: str | bytes, model: type[Model], origin: str) -> Model:
    """Parse YAML or JSON text into ``model``; ``origin`` names it in errors (see :func:`read`)."""
    try:
        data = _load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        if isinstance(error, _TwiceError):
            where += f": {error.problem}"
        raise BadInputError(f"{origin}: not valid YAML{where}") from error
    if not isinstance(data, dict):
        raise BadInputError(f"{origin}: expected keys and values, found {type(data).__name__}")
    try:
        # Through JSON, so that lists may fill tuples and YAML dates stay text, as JSON readers see them.
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise BadInputError(f"{origin}: {_first_problem(error, model)}") from error


class _TwiceError(yaml.MarkedYAMLError):
    """A key is there twice: which of its values is meant nobody knows."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _TwiceError(problem=f"'{key.value}' is there twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _load(text: str | bytes) -> object:
    # YAML reads JSON, but slowly, and takes 1e-05 for text.
    try:
        return json.loads(text)
    except ValueError:
        return yaml.load(text, _Loader)


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    problems = error.errors(include_url=False, include_input=False)
    # A misspelt key also leaves the right one missing: name the misspelling.
    problem = min(problems, key=lambda p: p["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"]) or "file"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "known keys: " + ", ".join(sorted(known))
        return f"{where}: unknown key; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem.get("ctx", {}).get("pattern") == _NAME:
        message = "use lower case letters, digits and inner hyphens, at most 64"
    more = len(problems) - 1
    return f"{where}: {message}" + (f" (and {more} more)" if more else "")


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys of the model that a location inside ``model`` leads to; a tagged union adds its tag as a part."""
    current: Any = model
    for part in location:
        current = _step_into(current, part)
    candidates = _models(current)
    return sorted({key for candidate in candidates for key in candidate.model_fields})


def _step_into(annotation: Any, part: int | str) -> Any:
    found = []
    for candidate in _models(annotation):
        if isinstance(part, str) and part in candidate.model_fields:
            found.append(candidate.model_fields[part].annotation)
    if found:
        return found[0]
    tagged = [c for c in _models(annotation) if part in _tags(c)]
    return tagged[0] if tagged else annotation


def _tags(model: type[BaseModel]) -> set[Any]:
    return {value for field in model.model_fields.values() for value in get_args(field.annotation)}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType, list, tuple, dict):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []
