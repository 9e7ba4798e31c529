"""What is sent to an archive of a study: a structured report (TID 1500) and a picture under its heat map.

Decision support for people who look at the images themselves: reports are partial and unverified, and say so.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pydicom import Dataset

from edge import __version__
from edge.imaging.frame import Pixels

__all__ = ["Document", "Evidence", "capture", "complete", "report"]

# Their messages quote what headers hold.
warnings.filterwarnings("ignore", module=r"highdicom(\.|$)")

SCHEME = "99SCANWRIGHT"
"""Coding scheme of what no standard has a code for: the bundle's labels, decisions and reasons."""
MANUFACTURER = "scanwright"
_NOTICE = "Decision support, not a diagnosis"
_TYPE_2 = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_LOINC = {
    "ejection_fraction": ("10230-1", "Left Ventricular Ejection Fraction"),
    "end_diastolic_volume": ("8821-9", "Left Ventricular End Diastolic Volume"),
    "end_systolic_volume": ("8823-5", "Left Ventricular End Systolic Volume"),
}
_REPORT_SERIES, _CAPTURE_SERIES = 9201, 9202
_STRIP = 0.06  # height of the line of text under a picture, over its longer side


@dataclass(frozen=True)
class Evidence:
    """A Finding (as ``edge.mqtt.payloads`` says it, as JSON) and the header of the image that it is of."""

    finding: Mapping[str, Any]
    header: Dataset


@dataclass(frozen=True)
class Document:
    """The UIDs of a document that is to be made, and which of its series it is."""

    series_uid: str
    instance_uid: str
    number: int


def complete(header: Dataset) -> Dataset | None:
    """A header with the attributes that every object of a study has, empty where it lacks them (type 2).

    None where it lacks a UID, without which nothing can refer to it.
    """
    needed = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    if not all(header.get(name) for name in needed):
        return None
    for name in _TYPE_2:
        if name not in header:
            setattr(header, name, "")
    return header


def report(evidence: Sequence[Evidence], document: Document, device_uid: str) -> Dataset:
    """A Comprehensive SR by TID 1500, one measurement group for each finding.

    A group holds the decision, each label's calibrated probability with the threshold it was held to, what
    was measured, and the reasons where there is no result.

    Args:
        evidence: findings of one bundle in one study, one or more.
        document: its UIDs.
        device_uid: what the device is known by; no serial number of anything.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    first = evidence[0].finding
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid,
            name=first["device"],
            manufacturer_name=MANUFACTURER,
            model_name=_model(first),
            physical_location=first["site"],
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_coded("procedure", "Image analysis by a neural network"),
        imaging_measurements=[_group(one) for one in evidence],
        title=codes.DCM.ImagingMeasurementReport,
    )
    headers = {str(one.header.SOPInstanceUID): one.header for one in evidence}
    made = hd.sr.ComprehensiveSR(
        evidence=list(headers.values()),
        content=content,
        series_instance_uid=document.series_uid,
        series_number=_REPORT_SERIES,
        sop_instance_uid=document.instance_uid,
        instance_number=document.number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=_model(first),
        software_versions=__version__,
        series_description=f"AI findings. {_NOTICE}",
        device_serial_number=first["device"],
    )
    return _finished(made, evidence[0].header)


def capture(one: Evidence, overlay: Pixels, document: Document) -> Dataset:
    """A Secondary Capture: the picture under the heat map, with a line of text below it.

    Args:
        one: a finding.
        overlay: uint8 RGB ``[H, W, 3]``; only what the model saw, black elsewhere.
        document: its UIDs.
    """
    import highdicom as hd

    made = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=one.header,
        pixel_array=_with_text(overlay, _line(one.finding)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # one is asked for; the image's own is put in its place
        series_instance_uid=document.series_uid,
        series_number=_CAPTURE_SERIES,
        sop_instance_uid=document.instance_uid,
        instance_number=document.number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=_model(one.finding),
        software_versions=__version__,
        series_description=f"Where the AI looked. {_NOTICE}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    made.DerivationDescription = f"{_line(one.finding)}. {_NOTICE}."
    setattr(made, "PatientOrientation", one.header.get("PatientOrientation") or "")  # noqa: B010
    if burned := one.header.get("BurnedInAnnotation"):
        made.BurnedInAnnotation = burned
    return _finished(made, one.header)


def _group(one: Evidence) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    finding, header = one.finding, one.header
    frames = int(header.get("NumberOfFrames") or 1)
    source = hd.sr.SourceImageForMeasurementGroup(
        referenced_sop_class_uid=header.SOPClassUID,
        referenced_sop_instance_uid=header.SOPInstanceUID,
        referenced_frame_numbers=[finding["frame"] + 1] if frames > 1 else None,
    )
    decided = [hd.sr.QualitativeEvaluation(_coded("decision", "Decision"), _decision(finding["decision"]))]
    if finding["label"]:
        named = _coded_label(finding["label"])
        decided.append(hd.sr.QualitativeEvaluation(_coded("finding", "Finding"), named))
    decided += [
        hd.sr.QualitativeEvaluation(_coded("no_result", "No result because"), _coded(reason, _words(reason)))
        for reason in finding["reasons"]
    ]
    measured = [
        hd.sr.Measurement(name=_coded_label(label, kind), value=float(value), unit=codes.UCUM.NoUnits)
        for kind, values in (("Probability", finding["probabilities"]), ("Threshold", finding["thresholds"]))
        for label, value in values.items()
    ]
    measured += [
        hd.sr.Measurement(name=_quantity(one), value=float(one["value"]), unit=_unit(one["unit"]))
        for one in finding.get("measurements", ())
        if one["value"] is not None
    ]
    decided += [
        hd.sr.QualitativeEvaluation(_quantity(one), _coded(one["reason"], _words(one["reason"])))
        for one in finding.get("measurements", ())
        if one["reason"] is not None
    ]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=f"2.25.{int(finding['id'], 16)}", identifier=f"{finding['case_code']} {finding['id'][:8]}"
        ),
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=finding["bundle"]["name"],
            version=finding["bundle"]["version"],
            parameters=[f"sha256={finding['bundle']['sha256']}", _NOTICE],
        ),
        measurements=measured,
        qualitative_evaluations=decided,
        source_images=[source],
    )


def _quantity(measurement: Mapping[str, Any]) -> Any:
    """What was measured: a standard code of a left ventricle's, else the bundle's label."""
    from highdicom.sr import CodedConcept

    if measurement["name"] in _LOINC:
        value, meaning = _LOINC[measurement["name"]]
        return CodedConcept(value, "LN", meaning)
    return _coded_label(measurement["label"], _words(measurement["name"]))


def _unit(code: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code, "UCUM", code)


def _decision(decision: str) -> Any:
    from pydicom.sr.codedict import codes

    standard = {"positive": codes.SCT.Present, "negative": codes.SCT.Absent}
    return standard.get(decision) or _coded(decision, _words(decision))


def _coded(value: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value[:16], SCHEME, meaning[:64])


def _coded_label(label: str, kind: str = "") -> Any:
    """A label of the bundle; its code is its beginning, its meaning all of it."""
    code = "".join(c if c.isascii() and c.isalnum() else "_" for c in label)
    return _coded(f"{kind[:4]}_{code}" if kind else code, f"{kind} of {label}" if kind else label)


def _words(code: str) -> str:
    return code.replace("_", " ").capitalize()


def _model(finding: Mapping[str, Any]) -> str:
    return f"{finding['bundle']['name']} {finding['bundle']['version']}"


def _line(finding: Mapping[str, Any]) -> str:
    probability = f" {100 * finding['probability']:.0f}%" if finding["probability"] is not None else ""
    return f"{_model(finding)}: {finding['decision']} {finding['label'] or ''}{probability}".rstrip()


def _with_text(picture: Pixels, line: str) -> Pixels:
    height, width = picture.shape[:2]
    tall = max(24, round(_STRIP * max(height, width)))
    strip = np.zeros((tall, width, 3), np.uint8)
    text = f"{line}. {_NOTICE}".encode("ascii", "replace").decode()
    (wide, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(tall / 40, 0.96 * width / wide)
    place = (round(0.02 * width), round(tall * 0.65))
    cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def _finished(made: Dataset, header: Dataset) -> Dataset:
    """What all documents of a study share with its images."""
    made.SpecificCharacterSet = "ISO_IR 192"
    for name in ("StudyDescription", "AccessionNumber", "ReferringPhysicianName"):
        if name in header:
            setattr(made, name, header[name].value)
    return made
