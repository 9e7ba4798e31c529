"""The agent's figures for Prometheus, in its text format 0.0.4. Nothing here is of a single image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edge import __version__
from edge.agent.config import AgentConfig
from edge.exposition import family
from edge.mqtt.payloads import BundleRef, Health

__all__ = ["exposition"]


def exposition(health: Health, connected: bool, config: AgentConfig, bundles: Sequence[BundleRef]) -> str:
    """All figures, in base units; one that is not known is left out.

    Args:
        health: how the device is now.
        connected: whether the broker is reached.
        config: the names of site and device.
        bundles: those in use.
    """
    inference_s = None if health.inference_ms is None else health.inference_ms / 1e3
    full = None if health.disk_days is None else health.disk_days * 86400
    wear = None if health.storage_wear_percent is None else health.storage_wear_percent / 100
    certificate = None if health.certificate_days is None else health.certificate_days * 86400
    result = None if health.last_result is None else health.last_result.timestamp()
    last = None if health.last_frame is None else health.last_frame.timestamp()
    figures: list[tuple[str, Literal["gauge", "counter"], str, float | None]] = [
        ("uptime_seconds", "gauge", "Since the agent's start.", health.uptime_s),
        ("frames_total", "counter", "Frames taken since the start.", health.frames),
        ("findings_total", "counter", "Findings on the disk since the start.", health.findings),
        ("quarantined_total", "counter", "Files put into quarantine since the start.", health.quarantined),
        ("outbox_messages", "gauge", "Messages that wait to be delivered.", health.backlog),
        ("outbox_oldest_seconds", "gauge", "Age of the one that waits longest.", health.backlog_oldest_s),
        ("last_frame_timestamp_seconds", "gauge", "When a frame came last.", last),
        ("last_result_timestamp_seconds", "gauge", "When a frame gave a result last.", result),
        (
            "inference_seconds",
            "gauge",
            "Median time in the interpreter of the last 100 frames.",
            inference_s,
        ),
        ("disk_free_bytes", "gauge", "Room on the state folder's disk.", health.disk_free_mb * 1e6),
        ("disk_full_in_seconds", "gauge", "Until the disk is full, as it filled lately.", full),
        ("memory_bytes", "gauge", "The agent's resident memory.", health.memory_mb * 1e6),
        ("temperature_celsius", "gauge", "The hottest sensor.", health.temperature_celsius),
        ("throttled", "gauge", "1 while the board is slowed down.", bool(health.throttling)),
        ("storage_wear_ratio", "gauge", "Used life of the eMMC.", wear),
        ("certificate_seconds", "gauge", "Until the certificate for the broker ends.", certificate),
        ("outbox_set_aside", "gauge", "Messages that the broker never takes.", health.set_aside),
        ("outbox_dropped_total", "counter", "Events and overlays dropped by the caps.", health.dropped),
        ("metered_bytes", "gauge", "What the metered link carried today.", health.metered_bytes),
        ("refusing_images", "gauge", "1 while no new image is taken.", health.refusing),
        ("load1", "gauge", "Load average of one minute.", health.load),
        ("broker_connected", "gauge", "1 while the broker is reached.", connected),
        ("clock_trusted", "gauge", "1 while the wall clock can be believed.", health.stamp.clock_trusted),
    ]
    device = {"site": config.site, "device": config.device}
    parts = [family(name, kind, text, [(device, value)]) for name, kind, text, value in figures]
    parts.append(family("agent_info", "gauge", "The agent.", [(device | {"version": __version__}, 1)]))
    used = [
        (device | {"bundle": ref.name, "version": ref.version, "signed": str(ref.signed).lower()}, 1.0)
        for ref in bundles
    ]
    parts.append(family("bundle_info", "gauge", "Each bundle in use.", used))
    return "".join(parts)
