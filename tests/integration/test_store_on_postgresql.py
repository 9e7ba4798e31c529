"""The store's tests once more, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from fleet import Simulated

from edge.monitor.store.database import Database
from edge.monitor.store.intake import Kept, keep
from tests.edge.monitor.test_store import (  # noqa: F401
    test_a_cart_is_known_by_its_last_words,
    test_a_cart_known_only_from_what_the_broker_kept_was_never_heard,
    test_a_command_is_sent_once_and_its_answer_found,
    test_a_late_finding_lands_at_its_time_and_does_not_set_the_last_good_case_back,
    test_a_verdict_goes_to_the_cart_once_it_is_there_and_the_newest_counts,
    test_an_action_that_fails_harms_none_that_is_committed_with_it,
    test_an_id_is_kept_once_for_a_device_and_no_device_takes_anothers,
    test_an_overlay_is_kept_beside_its_finding,
    test_drift_is_told_once_a_day_after_a_baseline_of_whole_days,
    test_events_of_the_monitor_are_told_once_for_their_key,
    test_numbers_beyond_measure_are_kept_as_the_largest,
    test_receipts_for_findings_that_are_not_here_are_forged,
    test_texts_that_postgresql_cannot_keep_are_made_harmless,
    test_the_audit_trail_shows_where_it_was_changed,
    test_the_work_list_begins_with_positives_and_the_uncertain,
    test_what_is_old_is_let_go_and_health_is_thinned,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def database(postgres: Any) -> Iterator[Database]:
    with closing(Database(postgres.database(), receives=True)) as opened:
        yield opened


@pytest.fixture
def cart() -> Simulated:
    return Simulated("clinic", "cart-1")


@pytest.fixture
def put(database: Database, cart: Simulated) -> Callable[..., Kept]:
    def put(*said: tuple[str, bytes], received: float = 1_800_000_000.0) -> Kept:
        batch = [cart.heard(one, received) for one in said]
        return database.write(lambda connection: keep(connection, database, batch, received)).result()

    return put


def test_the_tables_are_made_once_however_many_begin_at_the_same_time(postgres: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = postgres.database()
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(Database, [url] * 4))
    assert len({one.name for one in opened}) == 1
    for one in opened:
        one.close()
