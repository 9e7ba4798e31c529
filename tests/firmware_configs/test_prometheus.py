"""What is shipped for Prometheus the real promtool takes, and each alarm is raised when it should be."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "firmware_configs/prometheus"


def promtool(*arguments: str, cwd: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run(
        ["promtool", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER, tmp_path / "prometheus")
    return tmp_path / "prometheus"


def test_the_configuration_is_one(folder):
    (folder / "monitor-ca.pem").touch()
    (folder / "monitor-token").touch()
    promtool("check", "config", "prometheus.yml", cwd=folder)


def test_the_rules_raise_what_they_should(folder):
    text = (Path(__file__).parent / "alerts_test.yml").read_text(encoding="utf-8")
    given = yaml.safe_load(text)
    rules = yaml.safe_load((folder / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    notes = {rule["alert"]: rule["annotations"] for rule in rules}
    for number, test in enumerate(given["tests"]):
        for check in test["alert_rule_test"]:
            for expected in check["exp_alerts"]:
                labels = expected["exp_labels"]
                expected["exp_annotations"] = {
                    key: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], said)  # noqa: B023
                    for key, said in notes[check["alertname"]].items()
                }
        # Each is evaluated as often as it has samples: weeks by the minute take promtool a minute.
        one = {"rule_files": ["alerts.yml"], "evaluation_interval": test["interval"], "tests": [test]}
        (folder / f"test-{number}.yml").write_text(yaml.safe_dump(one))
    promtool("test", "rules", *(path.name for path in sorted(folder.glob("test-*.yml"))), cwd=folder)


def test_every_alarm_is_tested_documented_and_says_what_to_do():
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    tested = (Path(__file__).parent / "alerts_test.yml").read_text(encoding="utf-8")
    page = (ROOT / "docs/how-to/prometheus-and-grafana.md").read_text(encoding="utf-8")
    for rule in rules:
        assert f"alertname: {rule['alert']}," in tested or f"alertname: {rule['alert']}\n" in tested
        assert f"`{rule['alert']}`" in page
        assert rule["labels"]["severity"] in ("page", "ticket", "note")
        assert rule["annotations"].keys() == {"summary", "action"}
