"""``scanwright rollout``: a new version for all carts, in stages."""

from __future__ import annotations

import getpass
import re
import time
from collections import Counter
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from edge.errors import BadInputError, shown
from edge.monitor.cli import opened, store_option
from edge.output import json_option, write_json

__all__ = ["rollout"]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)) is None:
            self.fail(f"{value!r}: give a number with s, m, h or d, such as 24h", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class _Shares(click.ParamType):  # type: ignore[type-arg]
    name = "percent,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) / 100 for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r}: give growing percentages that end with 100, such as 5,25,100", param, ctx)


@click.group()
def rollout() -> None:
    """Bring a new version of a bundle to all carts, the canaries first, and stop where it does not do well.

    \b
    Examples:
      scanwright rollout start chest 1.1.0 --site clinic-east --store sqlite:///fleet.db
      scanwright rollout status --store sqlite:///fleet.db
      scanwright rollout pause chest-1.1.0-3f9a --store sqlite:///fleet.db

    The monitor that runs on the same store carries it out; carts that come online weeks later get theirs.
    """


@rollout.command()
@click.argument("bundle")
@click.argument("version")
@click.option("--site", default="", help="Only this site's carts; else all.")
@click.option(
    "--stages", type=_Shares(), default="5,25,100", show_default=True, help="Share of the carts, by stage."
)
@click.option(
    "--wait", type=_Duration(), default="24h", show_default=True, help="Watch each stage for so long."
)
@click.option(
    "--failures",
    type=click.FloatRange(0, 100),
    default=5.0,
    show_default=True,
    help="Halt when more than so many percent failed.",
)
@click.option(
    "--patience",
    type=_Duration(),
    default="3d",
    show_default=True,
    help="No outcome for so long is a failure.",
)
@store_option
def start(
    bundle: str,
    version: str,
    site: str,
    stages: tuple[float, ...],
    wait: float,
    failures: float,
    patience: float,
    store_url: str,
) -> None:
    """Begin to bring VERSION of BUNDLE to the carts that have BUNDLE.

    \b
    Example:
      scanwright rollout start chest 1.1.0 --stages 5,25,100 --wait 24h --store sqlite:///fleet.db

    Publish the version first, so that carts find it. The same rollout is not begun twice, and no second one
    of a bundle and site while one is not over.
    """
    from edge.bundle.manifest import Version
    from edge.monitor import rollouts
    from edge.monitor.rollout import Plan
    from edge.schema import is_name

    for name in (bundle, *([site] if site else [])):
        if not is_name(name):
            raise BadInputError(f"{name}: a name has lower case letters, digits and hyphens")
    try:
        TypeAdapter(Version).validate_python(version)
    except ValidationError as error:
        raise BadInputError(f"{version}: a version is three numbers, such as 1.1.0") from error
    try:
        plan = Plan(stages=stages, wait_s=wait, failures=failures / 100, patience_s=patience)
    except ValidationError as error:
        wrong = str(error.errors()[0]["loc"][0]).removesuffix("_s")
        remedy = "give growing percentages that end with 100, such as 5,25,100"
        raise BadInputError(f"--{wrong}: {remedy if wrong == 'stages' else 'is out of range'}") from error
    with opened(store_url) as database:
        id_, new = rollouts.start(database, bundle, version, site, plan, _who(), time.time())
    click.echo(id_ if new else f"{id_} (runs already)")


@rollout.command()
@click.argument("id_", metavar="[ID]", required=False)
@json_option
@store_option
def status(id_: str | None, json_file: str | None, store_url: str) -> None:
    """Show all rollouts, or one with its carts.

    \b
    Example:
      scanwright rollout status chest-1.1.0-3f9a --store sqlite:///fleet.db
    """
    from edge.monitor import rollouts

    with opened(store_url) as database:
        found = rollouts.views(database, id_)
    if id_ is not None and not found:
        raise BadInputError(f"{id_}: there is no such rollout; see 'scanwright rollout status'")
    if json_file:
        write_json({"rollouts": [_as_json(view) for view in found]}, json_file)
        return
    if not found:
        click.echo("there are no rollouts")
    for view in found:
        counts = Counter(member.state for member in view.members)
        said = ", ".join(
            f"{counts[state]} {state}" for state in ("done", "ordered", "waiting", "failed", "excused")
        )
        stage = f"stage {view.stage + 1} of {len(view.plan.stages)}"
        click.echo(f"{view.id}  {view.state}  {stage}  {view.site or 'all sites'}: {said}; {shown(view.why)}")
        for member in view.members if id_ is not None else ():
            detail = f"  {shown(member.detail)}" if member.detail else ""
            click.echo(f"  {member.stage + 1}  {member.site}/{member.device}  {member.state}{detail}")


def _changing(name: str, to: str, text: str) -> None:
    @rollout.command(name, help=text)
    @click.argument("id_", metavar="ID")
    @click.option("--why", default="", help="The reason, for the audit trail.")
    @store_option
    def command(id_: str, why: str, store_url: str) -> None:
        from edge.monitor import rollouts

        with opened(store_url) as database:
            changed = rollouts.change(database, id_, to, _who(), time.time(), why)  # type: ignore[arg-type]
        click.echo(f"{id_} is {to}" + ("" if changed else " already"))


_changing(
    "pause",
    "paused",
    "Order no more carts to update, until it is resumed. What has begun goes on.\n\n\b\nExample:\n"
    "  scanwright rollout pause chest-1.1.0-3f9a --why 'waiting for the radiologist'",
)
_changing(
    "resume",
    "running",
    "Go on. Of a halted rollout this accepts what had halted it.\n\n\b\nExample:\n"
    "  scanwright rollout resume chest-1.1.0-3f9a --why 'cart-07 has a broken disk'",
)
_changing(
    "abort",
    "aborted",
    "End it. Carts that have the version keep it.\n\n\b\nExample:\n"
    "  scanwright rollout abort chest-1.1.0-3f9a --why 'finds too much'",
)


def _as_json(view: Any) -> dict[str, Any]:
    names = (
        "id",
        "bundle",
        "version",
        "site",
        "state",
        "stage",
        "stage_since",
        "created",
        "created_by",
        "why",
    )
    carts = [
        {name: getattr(one, name) for name in ("site", "device", "stage", "state", "since", "detail")}
        for one in view.members
    ]
    return {name: getattr(view, name) for name in names} | {"plan": view.plan.model_dump(), "carts": carts}


def _who() -> str:
    return f"{getpass.getuser()} (command line)"
