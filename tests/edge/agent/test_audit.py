from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
import yaml

from edge.agent.audit import Audit
from edge.agent.clock import Clock
from edge.agent.database import Database
from edge.agent.state import DATABASE
from edge.cli import main


@pytest.fixture
def config(tmp_path) -> str:
    """A cart whose agent started and stopped."""
    path = tmp_path / "agent.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "site": "clinic",
                "device": "cart-1",
                "state": "state",
                "bundles": ["tiny.swb"],
                "sources": [{"kind": "folder", "path": "in"}],
            }
        )
    )
    (tmp_path / "state").mkdir()
    with closing(Database(tmp_path / "state" / DATABASE)) as database:
        audit = Audit(database, Clock())
        audit.add("start", {"agent_version": "1"})
        audit.add("stop", {}).result()
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["agent", "audit", *arguments])
    said = capsys.readouterr()
    return int(exit_.value.code or 0), said.out, said.err


def test_the_log_is_printed_and_its_chain_checked(capsys, config):
    code, out, err = run(capsys, "--config", config)
    first, second, last = out.splitlines()
    assert (code, err) == (0, "")
    assert first.endswith("start  agent_version=1") and second.endswith("stop")
    assert "the chain holds: 2 entries" in last
    code, out, _ = run(capsys, "--config", config, "--json")
    said = json.loads(out)
    assert said["broken_at"] is None and said["entries"][1]["hash"] == last.split()[-1]


def test_a_changed_entry_is_named_and_exit_1(capsys, config, tmp_path):
    with closing(sqlite3.connect(tmp_path / "state" / DATABASE)) as database, database:
        database.execute("DROP TRIGGER audit_is_not_changed")
        database.execute("UPDATE audit SET stamp = replace(stamp, '20', '19') WHERE seq = 1")
    code, _, err = run(capsys, "--config", config)
    assert code == 1 and "entry 1" in err and len(err.splitlines()) == 1
    code, out, _ = run(capsys, "--config", config, "--json")
    assert code == 1 and json.loads(out)["broken_at"] == 1


def test_a_cart_that_never_ran_has_no_log(capsys, config, tmp_path):
    (tmp_path / "state" / DATABASE).rename(tmp_path / "elsewhere")
    code, _, err = run(capsys, "--config", config)
    assert code == 2 and "no agent has run" in err
    assert not (tmp_path / "state" / DATABASE).exists()
