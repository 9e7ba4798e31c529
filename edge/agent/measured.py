"""Which measurements the screen shows with a finding, and how a number is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge.mqtt.payloads import Finding, Measurement

__all__ = ["amount", "decision", "end_diastole", "of_clip"]

_TEXTS = {"%": "percent", "cm2": "unit.cm2", "{pixel}": "unit.pixel", "mL": "unit.ml"}


def decision(finding: Finding) -> str:
    """What the screen calls the decision: that a ventricle is seen makes nobody suspect anything."""
    structures = {one.label for one in finding.measurements if one.name == "ejection_fraction"}
    return "outlined" if finding.decision == "positive" and finding.label in structures else finding.decision


def of_clip(findings: Sequence[Finding], finding: Finding) -> list[Measurement]:
    """What was measured over several frames: by the newest of the study's findings that has a value, as the
    earlier ones knew less of the clip."""
    same = [
        other
        for other in (*findings, finding)
        if (other.study, other.source, other.bundle) == (finding.study, finding.source, finding.bundle)
    ]
    valued = (f for f in same if any(one.frames and one.value is not None for one in f.measurements))
    return [one for one in next(valued, finding).measurements if one.name != "area"]


def end_diastole(findings: Sequence[Finding]) -> Finding | None:
    """The frame at which the newest ejection fraction begins, if it is still among the findings."""
    for finding in findings:
        frames = next((one.frames for one in finding.measurements if one.frames), None)
        if frames:
            same = (finding.source, finding.bundle, frames[0])
            return next((f for f in findings if (f.source, f.bundle, f.frame) == same), None)
    return None


def amount(one: Measurement, texts: Mapping[str, str]) -> str:
    """A number with its unit, with as many digits as it deserves."""
    assert one.value is not None
    return texts[_TEXTS[one.unit]].format(n=f"{one.value:.1f}" if one.unit == "cm2" else f"{one.value:.0f}")
