"""What an agent says when it starts: what it is, what it uses, and what speaks against trusting that."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from edge import __version__
from edge.agent.audit import Audit
from edge.agent.config import AgentConfig
from edge.agent.model import Model
from edge.agent.recorder import Recorder

__all__ = ["say_what_is_used"]

log = logging.getLogger(__name__)


def say_what_is_used(config: AgentConfig, models: Sequence[Model], audit: Audit, recorder: Recorder) -> None:
    """Write agent, configuration and bundles to the audit log, and tell what is less than was asked for."""
    used = {
        "agent_version": __version__,
        "config_sha256": hashlib.sha256(config.model_dump_json().encode()).hexdigest(),
        **{f"bundle {model.ref.name}": model.ref.sha256 for model in models},
    }
    audit.add("start", used)
    for model in models:
        said = {"bundle": model.ref.name, "version": model.ref.version, "engine": model.engine}
        log.info("bundle loaded", extra=said | {"golden_difference": model.golden_difference})
        if model.not_accelerated:
            message = f"{model.ref.name} runs as int8 on the CPU: {model.not_accelerated}"
            recorder.tell("warning", "not_accelerated", message[:1000])
    if unsigned := [model.ref.name for model in models if not model.ref.signed]:
        recorder.tell(
            "warning",
            "bundle_unsigned",
            "running a bundle without proof of origin, because allow_unsigned is set",
            {"bundles": ", ".join(unsigned)},
        )
    if config.mqtt.protocol == "3.1.1" and not config.mqtt.receipts:
        log.warning(
            "MQTT 3.1.1 without receipts: the broker's word is all there is that a finding arrived;"
            " it says nothing of refusals or missing subscribers"
        )
