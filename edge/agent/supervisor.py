"""The agent across reloads of its configuration: made anew under its sources, and back if that fails."""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path

from edge.agent.config import AgentConfig, load_config
from edge.agent.defects import defects_stop
from edge.agent.service import Agent, Lasting
from edge.errors import ScanwrightError

__all__ = ["serve"]

log = logging.getLogger(__name__)


def serve(path: Path, stop: threading.Event, reload: threading.Event) -> None:
    """Run the agent of a configuration file until ``stop``; ``reload`` has the file read again.

    A reload that fails in any way leaves the configuration that worked, and says why in an event. No frame
    is lost: sources whose configuration is the same go on, and wait while the rest is made anew.

    Raises:
        BadInputError: the configuration cannot be used at the start.
        ScanwrightError: the agent cannot start, or cannot go on.
    """
    lasting = Lasting(reload=reload, path=path)
    config = load_config(path)
    agent: Agent | None = Agent(config, lasting=lasting)
    with defects_stop(stop):
        while agent:
            logging.getLogger().setLevel(agent.config.log_level.upper())
            agent.run(stop)
            agent = None
            if not stop.is_set():
                gc.collect()  # its models go before the next ones come
                reload.clear()
                config, agent = _next(path, config, lasting)


def _next(path: Path, before: AgentConfig, lasting: Lasting) -> tuple[AgentConfig, Agent]:
    try:
        config = load_config(path)
        return config, Agent(config, lasting=lasting)
    except ScanwrightError as error:
        log.error("the new configuration is not used", extra={"reason": str(error)})
        lasting.again = False  # settings on trial may be why: they are taken back as after a crash
        agent = Agent(before, lasting=lasting)
        agent.say("error", "reload_refused", f"the configuration that worked stays: {error}")
        return before, agent
