"""How this project's tests are run: fast ones first, and nothing may skip where every part is present."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

REQUIRE_ALL = os.environ.get("SCANWRIGHT_REQUIRE_ALL") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ("integration" in item.keywords, "slow" in item.keywords))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and "integration" in item.keywords and not hasattr(report, "wasxfail"):
        _must_not_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and "integration" in collector.path.parts:
        _must_not_skip(report)
    return report


def _must_not_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if REQUIRE_ALL:
        report.outcome = "failed"
        report.longrepr = f"SCANWRIGHT_REQUIRE_ALL=1 and this integration test was skipped: {report.longrepr}"
