from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.agent.config import AgentConfig
from edge.agent.model import Model, check_policy
from edge.agent.settings import TRIAL_S, Settings, SettingsFile, applied, changed
from edge.errors import BadInputError, ScanwrightError

CONFIG = AgentConfig.model_validate(
    {
        "site": "clinic",
        "device": "cart-1",
        "state": "state",
        "bundles": ["x"],
        "sources": [{"kind": "folder", "path": "x"}],
    }
)


def test_named_settings_are_changed_and_null_takes_them_back():
    first = changed(Settings(), {"policy": "night", "thresholds.lesion": 0.7, "overlays": "positive"})
    assert (first.policy, first.thresholds, first.overlays) == ("night", {"lesion": 0.7}, "positive")
    second = changed(first, {"thresholds.a.b": 0.2, "overlays": None})
    assert second.thresholds == {"lesion": 0.7, "a.b": 0.2} and second.overlays is None
    third = changed(second, {"policy": None, "thresholds.lesion": None, "thresholds.a.b": None})
    assert third == Settings()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mqtt.host": "elsewhere"}, "'mqtt.host' cannot be changed from afar"),
        ({"state": "/tmp"}, "'state' cannot be changed from afar; health_s, keep_days"),
        ({"sources": "x"}, "'sources' cannot"),
        ({"thresholds": 0.5}, "'thresholds' cannot"),
        ({"health_s": 0}, "health_s"),
        ({"health_s": "often"}, "health_s"),
        ({"overlays": "sometimes"}, "overlays"),
        ({"metered_bytes_a_day": 10}, "metered_bytes_a_day"),
        ({"policy": "night", "thresholds.lesion": 1.5}, "thresholds.lesion"),
        ({"policy": "NIGHT SHIFT"}, "policy"),
        ({"thresholds.lesion": 0.5}, "policy: name it"),
    ],
)
def test_what_may_not_be_changed_is_refused_by_name(arguments, words):
    with pytest.raises(BadInputError, match=words):
        changed(Settings(), arguments)


@given(
    st.dictionaries(st.text(max_size=30), st.none() | st.booleans() | st.integers() | st.floats() | st.text())
)
def test_no_arguments_make_it_stumble(arguments):
    try:
        made = changed(Settings(), arguments)
    except BadInputError as error:
        assert "\n" not in str(error)
    else:
        assert Settings.model_validate_json(made.model_dump_json()) == made


def test_settings_lie_over_the_configuration_and_leave_the_rest():
    settings = Settings(policy="night", thresholds={"lesion": 0.7}, health_s=5, metered_bytes_a_day=900_000)
    config = applied(CONFIG, settings)
    assert config.policy and config.policy.thresholds == {"lesion": 0.7} and config.health_s == 5
    assert config.mqtt.metered_bytes_a_day == 900_000 and config.mqtt.host == CONFIG.mqtt.host
    assert applied(CONFIG, Settings()) == CONFIG


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_change_is_on_trial_until_it_is_confirmed(tmp_path):
    time = Time()
    file = SettingsFile(tmp_path, time)
    file.change(Settings(health_s=5))
    assert file.trial and file.revision == 1 and file.current.health_s == 5
    with pytest.raises(BadInputError, match="revision 1 is on trial"):
        file.confirm(2)
    time.now = TRIAL_S
    assert not file.overdue()
    file.confirm(1)
    time.now = TRIAL_S * 9
    assert not file.trial and not file.overdue()
    assert SettingsFile(tmp_path).current.health_s == 5
    with pytest.raises(BadInputError, match="nothing is on trial"):
        file.confirm(1)


def test_a_change_that_nobody_confirms_goes_back_to_what_was_confirmed_last(tmp_path):
    time = Time()
    file = SettingsFile(tmp_path, time)
    file.change(Settings(health_s=5))
    file.confirm(1)
    file.change(Settings(health_s=6))
    file.change(Settings(health_s=7))
    time.now = TRIAL_S + 1
    assert file.overdue()
    file.revert()
    assert file.current.health_s == 5 and not file.trial and file.revision == 4
    assert SettingsFile(tmp_path).current == file.current


def test_confirmed_settings_can_be_taken_back_too(tmp_path):
    file = SettingsFile(tmp_path)
    file.change(Settings(health_s=5))
    file.confirm(1)
    file.revert()
    assert file.current == Settings()


def test_a_damaged_file_is_named_and_one_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "settings.json").write_text('{"revision": "x"}')
    with pytest.raises(BadInputError, match=r"settings\.json"):
        SettingsFile(tmp_path)
    (tmp_path / "settings.json").unlink()
    file = SettingsFile(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.agent.settings.write_durably", full)
    with pytest.raises(ScanwrightError, match="No space left"):
        file.change(Settings(health_s=5))
    assert file.current == Settings() and not file.trial


def model(path: Path, **policy: float) -> Model:
    config = applied(CONFIG, Settings(policy="night", thresholds=policy))
    return Model(path, allow_unsigned=True, target=None, threads=1, interpreter="auto", policy=config.policy)


def test_a_policy_moves_a_threshold_within_the_bundles_limits_and_no_further(tmp_path, tiny_bundle):
    path = tiny_bundle(tmp_path / "tiny.swb")
    moved = model(path, lesion=0.8)
    assert moved.policy == "night"
    assert model(path, other=0.5).policy is None
    with pytest.raises(BadInputError, match=r"0\.9 is outside what the bundle allows, 0\.2 to 0\.8"):
        model(path, lesion=0.9)
    with pytest.raises(BadInputError, match="no bundle has a threshold for it"):
        check_policy([moved], applied(CONFIG, Settings(policy="n", thresholds={"other": 0.5})).policy)
