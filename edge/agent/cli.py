"""``scanwright agent``: run and look after the service on a cart."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from edge.agent import logs
from edge.agent.config import (
    AGENT_SLOT,
    AgentConfig,
    CaptureSource,
    DicomSource,
    SlotConfig,
    load_config,
)
from edge.agent.order_cli import command
from edge.agent.state import CASE_KEY, DATABASE, SLOTS, running_agent
from edge.errors import BadInputError, ScanwrightError
from edge.update.launch import read_state, version_of

__all__ = ["agent"]

_config_option = click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), help="The agent's YAML file."
)


@click.group()
def agent() -> None:
    """Run and look after the service on a cart.

    Not a medical device: findings are decision support.
    """


agent.add_command(command)


@agent.command()
@_config_option
def run(path: Path) -> None:
    """Take frames, decide, show and tell, until stopped (SIGTERM or Ctrl-C).

    \b
    Example:
      scanwright agent run --config agent.yaml

    Nothing is lost at a stop, a kill or a power cut: findings wait in the state folder until the broker
    has them. On SIGHUP the configuration is read again, without losing a frame.
    """
    logs.set_up(load_config(path).log_level)
    # Decoders report on standard error in their own words; what fails is said by an event.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from edge.agent.supervisor import serve

    stop, reload = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    signal.signal(signal.SIGHUP, lambda _number, _frame: reload.set())
    serve(path, stop, reload)


@agent.command()
@_config_option
def check(path: Path) -> None:
    """Try everything that a configuration names, without taking a frame.

    \b
    Example:
      scanwright agent check --config agent.yaml

    Exit code 2 and one line if the agent would not start; a broker or a source that is not there is only
    said, for the agent waits for those.
    """
    config = load_config(path)
    from edge.agent.broker import broker_of
    from edge.agent.model import load_models
    from edge.agent.state import check_state
    from edge.mqtt.topics import Topics

    check_state(config.state)
    if config.update:
        from edge.update.client import Trust

        Trust(config.state / "update", config.update.root)
    click.echo(f"ok    configuration of {config.site}/{config.device}")
    for model in load_models(config):
        ref = model.ref
        click.echo(
            f"ok    bundle {ref.name} {ref.version} for {ref.target} on {model.engine}"
            + ("" if ref.signed else ", NOT SIGNED")
        )
        if model.not_accelerated:
            click.echo(f"note  {ref.name} runs as int8 on the CPU: {model.not_accelerated}")
    broker_of(config.mqtt).client(Topics(config.site, config.device))
    if config.courier:
        from edge.agent.courier import read_keys

        _, headquarters = read_keys(config, config.courier)
        click.echo(f"ok    courier: sticks at {config.courier.mount}, sealed to {headquarters}")
    _say(*_broker_answers(config))
    for source in config.sources:
        if isinstance(source, CaptureSource):
            if isinstance(source.url, str) and "://" not in source.url:
                _say(Path(source.url).exists(), f"source {source.name}: {source.url}")
        elif isinstance(source, DicomSource):
            _say(True, f"source {source.name}: receives as {source.ae_title} at {source.host}:{source.port}")
        else:
            _say(source.path.is_dir(), f"source {source.name}: folder {source.path}")


@agent.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(path: Path, as_json: bool) -> None:
    """Print whether the agent runs, what waits to be told, and its last findings.

    \b
    Example:
      scanwright agent status --config agent.yaml --json

    Exit code 1 if no agent runs, for health checks.
    """
    config = load_config(path)
    found = _status(config)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print_status(config, found)
    if not found["pid"]:
        raise SystemExit(1)


@agent.command()
@_config_option
def pin(path: Path) -> None:
    """Set the PIN that the screen asks for before it shows whose a result is.

    \b
    Example:
      scanwright agent pin --config agent.yaml

    Asks for it twice, and keeps its hash in the configuration's screen.pin_file; start the agent again
    afterwards.
    """
    config = load_config(path)
    if config.screen is None or config.screen.pin_file is None:
        raise BadInputError(f"{path}: screen.pin_file: say where the PIN is to be kept")
    from edge.agent.lock import write_pin

    given = click.prompt("PIN (6 to 12 digits)", hide_input=True, confirmation_prompt=True)
    write_pin(config.screen.pin_file, given)
    click.echo(f"PIN kept in {config.screen.pin_file}; start the agent again to use it")


@agent.command()
@_config_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the files in clear into this folder.",
)
def quarantine(path: Path, out: Path | None) -> None:
    """List the files that gave no image, and write them out to be looked at.

    \b
    Example:
      scanwright agent quarantine --config agent.yaml --out /media/stick

    What is printed and written may name a patient. The files stay in the quarantine.
    """
    config = load_config(path)
    from edge.agent.identity import device_secret
    from edge.agent.quarantine import Quarantine
    from edge.agent.vault import Vault

    key, folder = config.state / CASE_KEY, config.state / "quarantine"
    if not key.exists() or not folder.is_dir():
        raise BadInputError(f"state: {config.state} has no quarantine; has the agent run?")
    kept = Quarantine(folder, Vault(device_secret(key)))
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        for entry in kept.kept():
            click.echo(f"{entry.at}  {entry.source}  {entry.reason.value}  {entry.message}")
            if out is not None and entry.path:
                click.echo(f"  written to {kept.export(entry, out)}")
    except OSError as error:
        raise ScanwrightError(f"{error.filename}: {error.strerror}") from error


@agent.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(path: Path, as_json: bool) -> None:
    """Print what was done on this device, and check that nothing of it was changed.

    \b
    Example:
      scanwright agent audit --config agent.yaml

    Exit code 1 if an entry is missing or was changed. Note the last hash elsewhere now and then: it also
    shows whether the log was cut short or written anew.
    """
    config = load_config(path)
    database_path = config.state / DATABASE
    if not database_path.exists():
        raise BadInputError(f"state: no agent has run in {config.state}")
    from edge.agent.audit import Audit
    from edge.agent.clock import Clock
    from edge.agent.database import Database

    with closing(Database(database_path)) as database:
        log = Audit(database, Clock())
        entries, broken = log.entries(), log.broken_at()
    if as_json:
        click.echo(json.dumps({"entries": [asdict(entry) for entry in entries], "broken_at": broken}))
    else:
        for entry in entries:
            at = entry.stamp.get("corrected_at") or entry.stamp["at"]
            sure = "" if entry.stamp["clock_trusted"] or "corrected_at" in entry.stamp else "?"
            said = " ".join(f"{key}={value}" for key, value in entry.data.items())
            click.echo(f"{entry.seq}  {at}{sure}  {entry.kind}  {said}".rstrip())
    if broken is not None:
        raise ScanwrightError(f"{database_path}: entry {broken} of the audit log is missing or was changed")
    if not as_json and entries:
        click.echo(f"the chain holds: {len(entries)} entries, the last is {entries[-1].hash}")


@agent.command()
@_config_option
@click.option("--set", "set_", is_flag=True, help="Set the system's clock forward to the floor.")
def clock(path: Path, set_: bool) -> None:
    """Check the clock against the latest time that has passed for sure; with --set, put it there.

    \b
    Example:
      scanwright agent clock --set --config agent.yaml

    The floor is the latest of the agent's build, the site's authority and the last time that the agent
    knew. The clock is never set back. Exit code 1 if it is behind and could not be set.
    """
    from edge.agent.watch import time_floor

    floor = time_floor(load_config(path))()
    now = datetime.now(timezone.utc)
    if now >= floor:
        click.echo(f"ok    clock {now:%Y-%m-%d %H:%M}, not before {floor:%Y-%m-%d %H:%M}")
        return
    behind = f"the clock says {now:%Y-%m-%d}, but it is {floor:%Y-%m-%d} at least"
    if not set_:
        raise ScanwrightError(f"{behind}; set it, or run this with --set")
    try:
        time.clock_settime(time.CLOCK_REALTIME, floor.timestamp())
    except PermissionError as error:
        raise ScanwrightError(f"{behind}; setting it needs CAP_SYS_TIME: run this as root") from error
    click.echo(f"set   {behind}; set to that")


@agent.command()
@_config_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Save it, too: as HTML if FILE ends so."
)
def selftest(path: Path, out: Path | None) -> None:
    """Try the whole cart while its agent is stopped, and print a one-page commissioning report.

    \b
    Example:
      scanwright agent selftest --config agent.yaml --out commissioning.html

    A practice image goes through the real agent to the broker; its findings carry "test": true. Exit code 1
    if any line says FAIL.
    """
    config = load_config(path)
    logs.set_up("error")
    from edge.agent.commissioning import as_html, as_text
    from edge.agent.selftest import run_selftest

    report = run_selftest(config)
    click.echo(as_text(report))
    if out is not None:
        html = out.suffix.lower() in (".html", ".htm")
        try:
            out.write_text(as_html(report) if html else as_text(report) + "\n", encoding="utf-8")
        except OSError as error:
            raise BadInputError(f"{out}: cannot be written ({error.strerror})") from error
    if not report.passed:
        raise SystemExit(1)


@agent.command()
@_config_option
@click.option(
    "--wait", type=click.FloatRange(0), default=300, show_default=True, help="Seconds to deliver what waits."
)
@click.option("--discard-undelivered", is_flag=True, help="Lose findings that nobody has yet.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retire(path: Path, wait: float, discard_undelivered: bool, yes: bool) -> None:
    """Take a cart out of service: deliver what waits, then destroy all that it knows.

    \b
    Example:
      scanwright agent retire --config agent.yaml

    Stop the agent first. Keys, secret, database, spool and quarantine are overwritten and removed. Flash
    media may keep remnants; what counts is that the keys they were encrypted with are gone. Revoke the
    cart's certificate, too: scanwright keys revoke.
    """
    config = load_config(path)
    if not yes:
        click.confirm(f"Destroy everything that {config.site}/{config.device} knows?", abort=True)
    logs.set_up("error")
    from edge.agent.retire import retire as end

    end(config, wait, discard_undelivered, click.echo)
    click.echo(f"{config.site}/{config.device} is retired")


def _print_status(config: AgentConfig, found: dict[str, Any]) -> None:
    pid = found["pid"]
    click.echo(f"{config.site}/{config.device}: " + (f"running (process {pid})" if pid else "not running"))
    waiting = ", ".join(f"{count} {kind}s" for kind, count in found["waiting"].items()) or "nothing"
    oldest = found["oldest_s"]
    click.echo(f"waiting: {waiting}" + (f"; the oldest for {oldest:.0f} s" if oldest is not None else ""))
    for name, slot in found["slots"].items():
        used = slot["current"] or ("the installed agent" if name == AGENT_SLOT else "nothing yet")
        trial = f", {slot['trial']} on trial" if slot["trial"] else ""
        click.echo(f"slot {name}: {used}{trial}{_outcome(slot['result'])}")
    for finding in found["findings"]:
        what = finding["label"] or ", ".join(finding["reasons"])
        click.echo(f"{finding['at']}  {finding['case_code']}  {finding['decision']}  {what}")


def _outcome(result: dict[str, Any] | None) -> str:
    if result is None or result["what"] == "committed":
        return ""
    return f"; {result['version']} was {result['what'].replace('_', ' ')} ({result['reason']})"


def _status(config: AgentConfig) -> dict[str, Any]:
    found: dict[str, Any] = {
        "pid": running_agent(config.state),
        "waiting": {},
        "oldest_s": None,
        "slots": _slots(config),
        "findings": [],
    }
    path = config.state / DATABASE
    if not path.exists():
        return found
    from edge.agent.database import Database
    from edge.agent.outbox import Outbox
    from edge.agent.store import Store

    with closing(Database(path)) as database:
        outbox = Outbox(database)
        found |= {"waiting": outbox.counts(), "oldest_s": outbox.oldest_s()}
        for stored in Store(database).latest(5, pictures=False):
            finding = stored.finding
            keys = ("id", "case_code", "decision", "label", "probability", "reasons")
            found["findings"].append(
                {"at": finding["stamp"]["at"], "delivered": stored.delivered}
                | {key: finding[key] for key in keys}
            )
    return found


def _slots(config: AgentConfig) -> dict[str, Any]:
    """What updates have put into the slots: versions (current, previous, on trial), and the last result."""
    names = [bundle.slot for bundle in config.bundles if isinstance(bundle, SlotConfig)]
    if config.update and config.update.agent:
        names.append(AGENT_SLOT)
    found: dict[str, Any] = {}
    for name in names:
        try:
            state = read_state(config.state / SLOTS / name)
        except (OSError, ValueError) as error:
            raise ScanwrightError(f"slot '{name}': its state cannot be read; start the agent") from error
        versions = {"current": state.current, "previous": state.previous, "trial": state.trial}
        named = {key: value and version_of(value) for key, value in versions.items()}
        found[name] = named | {"result": state.result and asdict(state.result)}
    return found


def _broker_answers(config: AgentConfig) -> tuple[bool, str]:
    where = f"broker {config.mqtt.host}:{config.mqtt.port}"
    try:
        socket.create_connection((config.mqtt.host, config.mqtt.port), timeout=5).close()
    except OSError as error:
        return False, f"{where} ({error.strerror or error})"
    return True, where


def _say(there: bool, what: str) -> None:
    click.echo(("ok    " if there else "wait  ") + what + ("" if there else ": not there"))
