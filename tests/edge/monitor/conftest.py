from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet import Simulated

from edge.monitor.store.database import Database
from edge.monitor.store.intake import Kept, keep


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'fleet.db'}", receives=True)
    yield opened
    opened.close()


@pytest.fixture
def cart() -> Simulated:
    return Simulated("clinic", "cart-1")


@pytest.fixture
def put(database: Database, cart: Simulated) -> Callable[..., Kept]:
    """``put(said, …, received=…)``: keep messages of carts."""

    def put(*said: tuple[str, bytes], received: float = 1_800_000_000.0) -> Kept:
        batch = [cart.heard(one, received) for one in said]
        return database.write(lambda connection: keep(connection, database, batch, received)).result()

    return put
