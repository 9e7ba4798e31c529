"""The text catalogues: the same keys and placeholders in each, and a sentence for every reason."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from edge.agent.config import AgentConfig
from edge.bundle.reasons import Reason
from edge.inference.ventricle import Refusal
from edge.web.catalogue import languages, load_texts

ENGLISH = load_texts("en")
PLACEHOLDER = re.compile(r"\{[a-z]+\}")


def test_there_is_one_for_every_language_that_a_config_may_ask_for() -> None:
    assert set(languages()) == set(get_args(AgentConfig.model_fields["language"].annotation))


@pytest.mark.parametrize("part", [None, "fleet"])
@pytest.mark.parametrize("language", languages())
def test_it_has_every_key_and_every_placeholder(language: str, part: str | None) -> None:
    texts, english = load_texts(language, part), load_texts("en", part)
    assert set(texts) == set(english)
    for key, text in texts.items():
        assert text.strip(), key
        assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(english[key])), key


@pytest.mark.parametrize("language", languages())
def test_every_reason_is_a_sentence_of_its_own(language: str) -> None:
    texts = load_texts(language)
    sentences = [texts[f"reason.{reason.value}"] for reason in Reason]
    assert len(set(sentences)) == len(sentences)
    assert {key for key in texts if key.startswith("reason.")} == {f"reason.{r.value}" for r in Reason}
    assert all(sentence.endswith((".", "。")) for sentence in sentences)


@pytest.mark.parametrize("language", languages())
def test_every_refusal_to_measure_is_a_sentence_of_its_own(language: str) -> None:
    texts = load_texts(language)
    keys = {f"absent.{refusal.value}" for refusal in Refusal}
    assert {key for key in texts if key.startswith("absent.")} == keys
    assert len({texts[key] for key in keys}) == len(keys)


def test_english_reasons_say_no_result_because() -> None:
    for reason in Reason:
        assert ENGLISH[f"reason.{reason.value}"].startswith("No result, because ")


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(KeyError):
        load_texts("../en")
