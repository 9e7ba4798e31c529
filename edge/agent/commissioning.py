"""The commissioning report: what a self-test found, on one page, as text or HTML to print and sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from html import escape

from edge.errors import ScanwrightError

__all__ = ["Check", "Report", "as_html", "as_text", "checked"]

_LIMITS_OF_USE = "Not a medical device: findings are decision support."
_SIGNED = "Commissioned by: ______________________    Date: ______________    Signature: __________________"
_STYLE = """
@page { size: A4; margin: 15mm }
body { font: 11pt sans-serif; max-width: 180mm; margin: 2em auto; color: #111 }
h1 { font-size: 16pt; margin: 0 } table { border-collapse: collapse; width: 100%; margin: 1em 0 }
td, th { border: 1px solid #777; padding: 3px 6px; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere }
.FAIL { font-weight: bold; background: #111; color: #fff } footer { margin-top: 2em }
"""


@dataclass(frozen=True)
class Check:
    """One line: what was tried, whether it is as it must be, and what was seen."""

    name: str
    passed: bool
    seen: str

    @property
    def verdict(self) -> str:
        """``PASS`` or ``FAIL``."""
        return "PASS" if self.passed else "FAIL"


def checked(name: str, look: Callable[[], str]) -> Check:
    """A line of what ``look`` saw, or of why it failed: a ScanwrightError or an OSError says so."""
    try:
        return Check(name, True, look())
    except ScanwrightError as error:
        return Check(name, False, str(error))
    except OSError as error:
        return Check(name, False, error.strerror or str(error))


@dataclass(frozen=True)
class Report:
    """All lines of one cart. Nothing in it names a patient."""

    site: str
    device: str
    agent_version: str
    at: datetime
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no line says FAIL."""
        return all(check.passed for check in self.checks)

    @property
    def result(self) -> str:
        """The last line."""
        failed = [check.name for check in self.checks if not check.passed]
        return f"FAIL: {', '.join(failed)}" if failed else f"PASS: all {len(self.checks)} checks"

    @property
    def head(self) -> str:
        """Which cart, with what, when by its own clock."""
        return f"{self.site}/{self.device}    agent {self.agent_version}    {self.at:%Y-%m-%d %H:%M} UTC"


def as_text(report: Report) -> str:
    """The page as plain lines, without a line end after the last."""
    width = max(len(check.name) for check in report.checks)
    lines = [f"{check.verdict}  {check.name:{width}}  {check.seen}" for check in report.checks]
    head = ["scanwright commissioning report", report.head, ""]
    return "\n".join([*head, *lines, "", report.result, "", _LIMITS_OF_USE, "", _SIGNED])


def as_html(report: Report) -> str:
    """The page as one HTML file that needs no other."""
    rows = "\n".join(
        f'<tr><td class="{check.verdict}">{check.verdict}</td><td>{escape(check.name)}</td>'
        f"<td>{escape(check.seen)}</td></tr>"
        for check in report.checks
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Commissioning {escape(report.site)}/{escape(report.device)}</title>
<style>{_STYLE}</style></head>
<body>
<h1>scanwright commissioning report</h1>
<p>{escape(report.head)}</p>
<table>
<tr><th>result</th><th>check</th><th>seen</th></tr>
{rows}
</table>
<p><strong>{escape(report.result)}</strong></p>
<footer><p>{_LIMITS_OF_USE}</p><p>{_SIGNED}</p></footer>
</body>
</html>
"""
