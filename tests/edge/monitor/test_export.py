from __future__ import annotations

import csv
import io
import json

import cv2
import numpy as np
import pytest
from fleet import Simulated

from edge.monitor.dump import dump
from edge.monitor.export import FINDING_COLUMNS, fhir_bundle, finding_row, label_rows, to_csv
from edge.monitor.store import fleet
from trainer.data.dataset import load_dataset

NOW = 1_800_000_000.0


@pytest.fixture
def rows(database, put, cart):
    put(
        cart.finding("positive", 0.93),
        cart.finding("negative", 0.2),
        cart.finding("no_result", None),
        cart.finding("positive", 0.8, label="=HYPERLINK(1)"),
    )
    return fleet.findings(database, fleet.Filter(), 10)


def test_csv_has_a_row_a_finding_and_no_formula(rows):
    read = list(csv.DictReader(io.StringIO("".join(to_csv(FINDING_COLUMNS, map(finding_row, rows))))))
    assert [row["decision"] for row in read] == ["positive", "no_result", "negative", "positive"]
    assert read[0]["label"] == "'=HYPERLINK(1)"
    assert read[1]["reasons"] == "blurred" and read[1]["probability"] == ""


def test_fhir_is_a_valid_bundle_that_names_nobody(rows):
    fhir = pytest.importorskip("fhir.resources.R4B.bundle")
    made = fhir_bundle(rows, NOW)
    bundle = fhir.Bundle.model_validate(made)
    kinds = [entry.resource.get_resource_type() for entry in bundle.entry]
    assert kinds == ["DiagnosticReport", "Observation"] * len(rows)
    assert len({entry.fullUrl for entry in bundle.entry}) == 2 * len(rows)
    for report, observation in zip(bundle.entry[::2], bundle.entry[1::2], strict=True):
        assert report.resource.result[0].reference == observation.fullUrl
        assert report.resource.status == "preliminary" and report.resource.subject is None
    codes = [entry.resource.interpretation[0].coding[0].code for entry in bundle.entry[1::2]]
    assert codes == ["POS", "IND", "NEG", "POS"]


def test_fhir_of_nothing_is_valid_too():
    fhir = pytest.importorskip("fhir.resources.R4B.bundle")
    assert fhir.Bundle.model_validate(fhir_bundle([], NOW)).entry is None


def test_labels_are_what_train_reads(tmp_path, rows):
    reviewed = [(row, ["pneumonia"] if n % 2 else ["normal"]) for n, row in enumerate(rows)]
    (tmp_path / "labels.csv").write_text(
        "".join(to_csv(("path", "labels", "patient", "site"), label_rows(reviewed))), newline=""
    )
    for n, row in enumerate(rows):
        image = tmp_path / row.site / row.device / f"{row.id}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.full((32, 32), 40 * n, np.uint8))
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("normal", "pneumonia")
    assert len(dataset.samples) == 4


def test_the_whole_store_can_be_taken_along(tmp_path, database, put, cart, rows):
    put(cart.birth(), cart.health(), cart.event("clock_stepped"), Simulated("other", "cart-9").online())
    counts = dump(database, tmp_path)
    assert counts["finding"] == 4 and counts["device"] == 2 and counts["event"] == 1
    lines = (tmp_path / "findings.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in lines} == {row.id for row in rows}
    assert not (tmp_path / "accounts.csv").exists() and not (tmp_path / "sessions.csv").exists()
