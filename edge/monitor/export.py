"""What leaves the store as files: CSV for spreadsheets, labels for training, FHIR for records. No I/O."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

__all__ = ["FINDING_COLUMNS", "fhir_bundle", "finding_row", "label_rows", "to_csv"]

FINDING_COLUMNS = (
    "time",
    "time_known",
    "received",
    "site",
    "device",
    "case",
    "id",
    "model",
    "version",
    "decision",
    "label",
    "probability",
    "reasons",
    "test",
    "reviewed",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LOINC = "http://loinc.org"
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/v2-0074"
_URN = "urn:scanwright"
_CODES = {
    "positive": ("POS", "Positive"),
    "negative": ("NEG", "Negative"),
    "no_result": ("IND", "Indeterminate"),
}


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A CSV file (RFC 4180), in parts. Text that a spreadsheet would take for a formula is quoted."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in columns])
        if text.tell() > 1 << 16:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value


def finding_row(row: Any) -> dict[str, Any]:
    """A row of the table ``finding`` as one of :data:`FINDING_COLUMNS`."""
    return {
        "time": _iso(row.at),
        "time_known": row.time_known,
        "received": _iso(row.received),
        "site": row.site,
        "device": row.device,
        "case": row.case_code,
        "id": row.id,
        "model": row.bundle,
        "version": row.version,
        "decision": row.decision,
        "label": row.label,
        "probability": row.probability,
        "reasons": " ".join(json.loads(row.payload).get("reasons", ())),
        "test": row.test,
        "reviewed": row.reviewed,
    }


def label_rows(reviewed: Iterable[tuple[Any, Sequence[str]]]) -> Iterator[dict[str, Any]]:
    """Rows of a ``labels.csv`` as training reads it, of findings and the labels that reviewers gave them.

    ``path`` is where the image is expected, beside the file: ``SITE/DEVICE/ID.png``. The study stands for the
    patient: images of one are kept on one side of a split.
    """
    for row, labels in reviewed:
        yield {
            "path": f"{row.site}/{row.device}/{row.id}.png",
            "labels": ";".join(labels),
            "patient": row.study,
            "site": row.site,
        }


def fhir_bundle(rows: Iterable[Any], made: float) -> dict[str, Any]:
    """A FHIR R4 Bundle (``collection``): for each finding a DiagnosticReport with its Observation.

    Nobody is named: ``subject`` is left out, the case code and the finding's id are identifiers. A report is
    ``preliminary``: decision support that no physician has signed.
    """
    entries: list[dict[str, Any]] = []
    for row in rows:
        report, observation = f"urn:uuid:{_uuid(row.id, 'a')}", f"urn:uuid:{_uuid(row.id, 'b')}"
        entries.append({"fullUrl": report, "resource": _report(row, observation)})
        entries.append({"fullUrl": observation, "resource": _observation(row)})
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": _iso(made),
        **({"entry": entries} if entries else {}),
    }


def _report(row: Any, observation: str) -> dict[str, Any]:
    said = {"positive": f"suspected: {row.label}", "negative": "nothing suspected", "no_result": "no result"}
    return {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": f"{_URN}:finding", "value": row.id}],
        "status": "preliminary",
        "category": [{"coding": [{"system": _CATEGORY, "code": "RAD", "display": "Radiology"}]}],
        "code": {
            "coding": [{"system": _LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}],
            "text": f"Decision support by {row.bundle} {row.version}; not a diagnosis",
        },
        "effectiveDateTime": _iso(row.at),
        "issued": _iso(row.received),
        "result": [{"reference": observation}],
        "conclusion": f"Case {row.case_code}: {said[row.decision]}. Decision support, not a diagnosis.",
    }


def _observation(row: Any) -> dict[str, Any]:
    finding = json.loads(row.payload)
    code, display = _CODES[row.decision]
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "identifier": [
            {"system": f"{_URN}:finding", "value": row.id},
            {"system": f"{_URN}:case", "value": row.case_code},
        ],
        "status": "preliminary",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "imaging",
                        "display": "Imaging",
                    }
                ]
            }
        ],
        "code": {"text": row.label or f"Finding of {row.bundle}"},
        "effectiveDateTime": _iso(row.at),
        "issued": _iso(row.received),
        "interpretation": [{"coding": [{"system": _INTERPRETATION, "code": code, "display": display}]}],
        "method": {"text": f"{row.bundle} {row.version}, SHA-256 {finding['bundle']['sha256']}"},
        "device": {
            "identifier": {"system": f"{_URN}:device", "value": f"{row.site}/{row.device}"},
            "display": f"{row.site}/{row.device}",
        },
    }
    if row.probability is not None:
        resource["valueQuantity"] = {
            "value": round(row.probability, 6),
            "unit": "probability",
            "system": "http://unitsofmeasure.org",
            "code": "1",
        }
    else:
        resource["dataAbsentReason"] = {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                    "code": "not-performed" if row.decision == "no_result" else "unknown",
                }
            ],
            "text": " ".join(finding.get("reasons", ())) or "no probability is given",
        }
    return resource


def _uuid(id_: str, digit: str) -> str:
    """A UUID (RFC 9562, version 8) of a finding's id, its last digit another for each resource."""
    digits = f"{id_[:12]}8{id_[13:16]}a{id_[17:31]}{digit}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
