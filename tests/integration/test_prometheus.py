"""A real Prometheus asks the real monitor and a real cart; alarms and the dashboard work on that."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
import yaml

from edge.monitor.simulated import Simulated
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "firmware_configs"
TOKEN = "0123456789abcdef-token"
DASHBOARD = json.loads((SHIPPED / "grafana/fleet.json").read_text(encoding="utf-8"))
EXPRESSIONS = sorted({target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]})


class Prometheus:
    """The configuration that is shipped, with this test's addresses."""

    def __init__(self, folder: Path, monitor: int, cart: int) -> None:
        shutil.copytree(SHIPPED / "prometheus", folder)
        (folder / "monitor-token").write_text(TOKEN)
        config = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        fleet, carts = config["scrape_configs"]
        fleet |= {"scheme": "http", "static_configs": [{"targets": [f"127.0.0.1:{monitor}"]}]}
        del fleet["tls_config"]
        (folder / "carts").mkdir()
        (folder / "carts" / "here.yml").write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{cart}"]}]))
        assert carts["file_sd_configs"] == [{"files": ["carts/*.yml"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.port = free_port()
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", listen]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)

    def get(self, path: str) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            said: dict[str, Any] = json.loads(answer.read())
            assert said["status"] == "success"
            return said["data"]  # type: ignore[no-any-return]

    def query(self, expression: str) -> list[dict[str, Any]]:
        try:
            return self.get(f"/api/v1/query?query={quote(expression)}")["result"]  # type: ignore[no-any-return]
        except OSError:
            return []


@pytest.fixture
def scene(
    mosquitto: Any, subscriber: Any, make_cart: Any, tmp_path: Path
) -> Iterator[tuple[Prometheus, int]]:
    """A monitor that hears a real cart, one that is hot and refuses images, and one that is away."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    broker = mosquitto()
    broker.start()
    token, page, screen = tmp_path / "token", free_port(), free_port()
    token.write_text(TOKEN + "\n")
    command = [sys.executable, "-m", "edge.cli", "monitor", "--broker", f"mqtt://127.0.0.1:{broker.port}"]
    command += ["--store", f"sqlite:///{tmp_path / 'fleet.db'}", "--port", str(page)]
    with (tmp_path / "monitor.log").open("wb") as log:
        monitor = subprocess.Popen([*command, "--metrics-token", str(token)], stdout=log, stderr=log)
    running = [monitor]
    try:
        wait_for(lambda: "receiving findings" in (tmp_path / "monitor.log").read_text())
        watcher = subscriber(broker.port)
        cart = make_cart(broker.port)
        cart.config |= {"screen": {"port": screen}, "health_s": 1}
        cart.start()
        cart.feed(1, 2)
        ill, away = Simulated("clinic", "ill"), Simulated("clinic", "away")
        hot = {"temperature_celsius": 90.0, "refusing": True, "backlog": 5, "backlog_oldest_s": 30.0}
        for one, trouble in (
            (ill, hot),
            (away, {"disk_days": 3.0}),
        ):
            for topic, payload in (one.online(), one.birth(), one.health(**trouble), one.finding()):
                watcher.publish(topic, payload)
        watcher.publish(*away.online(False))
        wait_for(watcher.findings)
        prometheus = Prometheus(tmp_path / "prometheus", page, screen)
        running.append(prometheus.process)
        yield prometheus, page
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


def test_figures_alarms_and_every_query_of_the_dashboard(scene):
    prometheus, _ = scene
    wait_for(lambda: len(prometheus.query("scanwright_online")) == 3)
    wait_for(lambda: len(prometheus.query('up{job="scanwright-carts"} == 1')) == 1)
    wait_for(lambda: prometheus.query('scanwright_memory_bytes{device="cart-1"}'))
    found = {one["metric"]["device"]: one["value"][1] for one in prometheus.query("scanwright_online")}
    assert found == {"cart-1": "1", "ill": "1", "away": "0"}
    hot = {one["metric"]["device"] for one in prometheus.query("scanwright_temperature_celsius")}
    assert "ill" in hot and "away" not in hot, "the temperature of a cart that is away is no figure"
    certificate = prometheus.query('scanwright_certificate_seconds{device="away"}')
    assert 299 * 86400 < float(certificate[0]["value"][1]) < 300 * 86400

    rules = {r["name"]: r for r in prometheus.get("/api/v1/rules")["groups"][0]["rules"]}
    assert {r["health"] for r in rules.values()} <= {"ok", "unknown"}
    wait_for(lambda: prometheus.query('ALERTS{alertname="CartTakesNoImages", device="ill"}'))
    wait_for(lambda: prometheus.query('ALERTS{alertname="DiskFills", device="away"}'))
    wait_for(lambda: prometheus.query('ALERTS{alertname="BundleUnsigned", device="cart-1"}'))
    assert not prometheus.query('ALERTS{alertname="CartTakesNoImages", device!="ill"}')

    wait_for(lambda: len(prometheus.query("scanwright_monitor_findings_total[10s]")[0]["values"]) > 3)
    empty = [e for e in EXPRESSIONS if not prometheus.query(given(e))]
    assert empty == []
    sites = prometheus.get("/api/v1/label/site/values?match[]=scanwright_agent_info")
    assert sites == ["clinic"]


def given(expression: str) -> str:
    """An expression as Grafana asks it, for all sites."""
    filled = expression.replace("$site", ".+").replace("$__rate_interval", "10s")
    assert "$" not in filled
    return filled


def test_every_figure_of_the_dashboard_and_the_alarms_is_documented():
    page = (ROOT / "docs/reference/prometheus.md").read_text(encoding="utf-8")
    used = set(
        re.findall(r"scanwright_\w+", (SHIPPED / "prometheus/alerts.yml").read_text() + str(EXPRESSIONS))
    )
    assert len(used) > 15
    assert {
        name for name in used if name not in page and name.removeprefix("scanwright_") not in page
    } == set()


def test_figures_need_the_token(scene):
    _, page = scene
    for token, status in ((None, 401), ("wrong", 401), (TOKEN, 200)):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        command = Request(f"http://127.0.0.1:{page}/metrics", headers=headers)
        try:
            with urlopen(command, timeout=10) as answer:
                assert answer.status == status
        except OSError as error:
            assert getattr(error, "code", None) == status
