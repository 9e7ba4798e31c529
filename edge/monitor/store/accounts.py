"""Who may use the page: accounts, their passwords as scrypt hashes, and sessions."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Connection, delete, select, update

from edge.errors import BadInputError
from edge.monitor.store.database import Database
from edge.schema import is_name

__all__ = [
    "ROLES",
    "Account",
    "Role",
    "Session",
    "add",
    "check",
    "end",
    "listed",
    "of_token",
    "remove",
    "start",
]

Role = Literal["viewer", "reviewer", "engineer"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""

LEAST = 12
"""Letters of a password; length is what counts (NIST SP 800-63B)."""

_N, _R, _P = 1 << 14, 8, 1  # RFC 7914; 16 MiB, some 50 ms
_LONGEST_S = 12 * 3600.0  # a session ends a shift after its login,
_IDLE_S = 3600.0  # or an hour after it was last used
_USED_S = 60.0  # how often that is written down


@dataclass(frozen=True)
class Account:
    """Somebody who may use the page."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether the account's role holds another."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class Session:
    """A login: ``csrf`` stands in every form of its pages."""

    account: Account
    csrf: str


def add(connection: Connection, database: Database, name: str, role: Role, password: str, now: float) -> None:
    """Make an account, or give one another role and password; its sessions end.

    Raises:
        BadInputError: the name is none, or the password is too short.
    """
    if not is_name(name):
        raise BadInputError(f"{name}: use lower case letters, digits and inner hyphens, at most 64")
    if len(password) < LEAST:
        raise BadInputError(f"the password has fewer than {LEAST} letters; take a few words")
    row = {"name": name, "role": role, "password": _hashed(password), "created": now}
    statement = database.insert("account")
    new = {"role": statement.excluded.role, "password": statement.excluded.password}
    connection.execute(statement.on_conflict_do_update(index_elements=("name",), set_=new), [row])
    connection.execute(delete(database.tables["session"]).where(database.tables["session"].c.account == name))


def remove(connection: Connection, database: Database, name: str) -> bool:
    """Remove an account and end its sessions; False if there is none."""
    account, session = database.tables["account"], database.tables["session"]
    connection.execute(delete(session).where(session.c.account == name))
    return bool(connection.execute(delete(account).where(account.c.name == name)).rowcount)


def listed(database: Database) -> list[Account]:
    """All accounts, by name."""
    table = database.tables["account"]
    return [
        Account(row[0], row[1])
        for row in database.read(select(table.c.name, table.c.role).order_by(table.c.name))
    ]


def check(database: Database, name: str, password: str) -> Account | None:
    """The account of a name and its password. It takes as long where there is no such name."""
    table = database.tables["account"]
    rows = database.read(select(table).where(table.c.name == name))
    kept = rows[0].password if rows else _NOBODY
    return Account(name, rows[0].role) if _matches(password, kept) and rows else None


def start(connection: Connection, database: Database, account: Account, now: float) -> str:
    """Begin a session; its token, of which only a hash is kept."""
    token, table = secrets.token_urlsafe(32), database.tables["session"]
    connection.execute(delete(table).where(table.c.created < now - _LONGEST_S))
    row = {"token": _mark(token), "account": account.name, "csrf": secrets.token_urlsafe(16)}
    connection.execute(table.insert(), row | {"created": now, "used": now})
    return token


def of_token(database: Database, token: str, now: float) -> Session | None:
    """The session of a token; None where it has ended."""
    session, account = database.tables["session"], database.tables["account"]
    query = select(session, account.c.role).join_from(session, account, account.c.name == session.c.account)
    rows = database.read(query.where(session.c.token == _mark(token)))
    if not rows or now - rows[0].created > _LONGEST_S or now - rows[0].used > _IDLE_S:
        return None
    row = rows[0]
    if now - row.used > _USED_S:
        mine = update(session).where(session.c.token == row.token).values(used=now)
        database.write(lambda connection: connection.execute(mine).rowcount)
    return Session(Account(row.account, row.role), row.csrf)


def end(connection: Connection, database: Database, token: str) -> None:
    """End a session."""
    table = database.tables["session"]
    connection.execute(delete(table).where(table.c.token == _mark(token)))


def _mark(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _hashed(password: str) -> str:
    salt = os.urandom(16)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${_scrypt(password, salt, _N, _R, _P).hex()}"


def _matches(password: str, kept: str) -> bool:
    _, n, r, p, salt, right = kept.split("$")
    given = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(given, bytes.fromhex(right))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


_NOBODY = _hashed(secrets.token_hex(16))
