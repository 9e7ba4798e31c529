"""Rules of a rollout: who gets the new version when, what became of it, and when to stop. No I/O.

A rollout goes over its carts in stages, the canaries first. A cart is ordered to update when it is connected,
however late that is. Each proves the version itself and goes back by itself; the rollout goes on while that
works, and halts for a person to look where it does not.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator

from edge.schema import Contract, Probability

__all__ = [
    "OPEN",
    "Asked",
    "Cart",
    "Member",
    "MemberState",
    "Plan",
    "Standing",
    "State",
    "asks",
    "assign",
    "judged",
    "standing",
]

State = Literal["running", "paused", "halted", "aborted", "done"]
OPEN: tuple[State, ...] = ("running", "paused", "halted")
"""States of a rollout that another of the same bundle and site has to wait for."""

MemberState = Literal["waiting", "ordered", "done", "failed", "excused"]

_AGAIN_S = 600.0  # a connected cart that did not answer is asked again
_STALE_S = 300.0  # an order that took longer to the cart is refused by its age, not for what it asks


class Plan(Contract):
    """How a rollout goes."""

    stages: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = Field(
        default=(0.05, 0.25, 1.0), description="shares of the carts, the canaries' first, the last of them 1"
    )
    wait_s: Annotated[float, Field(ge=0)] = Field(
        default=86400.0, description="how long a stage is watched after the last of its carts succeeded"
    )
    failures: Probability = Field(
        default=0.05,
        description="share of the carts with an outcome that may fail without a halt",
    )
    patience_s: Annotated[float, Field(gt=0)] = Field(
        default=3 * 86400.0,
        description="a cart that tells no outcome for so long after its order counts as failed",
    )

    @field_validator("stages")
    @classmethod
    def _grow_to_all(cls, stages: tuple[float, ...]) -> tuple[float, ...]:
        if stages[-1] != 1 or any(a >= b for a, b in itertools.pairwise(stages)):
            raise ValueError("stages: growing shares, the last of them 1 (100 %)")
        return stages


@dataclass(frozen=True)
class Cart:
    """What is known of a cart that has, or may have, the bundle.

    ``slotted``: updates can replace the bundle; ``version``: in use; ``settled``: nothing is under way;
    ``result`` of its last update, of ``result_version``; all as of ``said_at`` (seconds since 1970), the
    monitor's clock.
    """

    site: str
    device: str
    online: bool
    retired: bool = False
    slotted: bool = True
    version: str | None = None
    settled: bool = True
    result: str | None = None
    result_version: str | None = None
    reason: str | None = None
    said_at: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """Its site and name."""
        return self.site, self.device


@dataclass(frozen=True)
class Asked:
    """The order that was sent to a cart, and the answer."""

    ordered_at: float
    sent_at: float | None = None
    answered_at: float | None = None
    ok: bool | None = None
    error: str | None = None


@dataclass(frozen=True)
class Member:
    """A cart's place in a rollout. ``since``: when it came into its state; ``detail``: why, in words."""

    site: str
    device: str
    stage: int
    state: MemberState = "waiting"
    since: float = 0.0
    detail: str | None = None
    asked: Asked | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Its site and name."""
        return self.site, self.device


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands. ``state`` and ``stage`` are those to go into; ``why``: the reason for it."""

    state: State
    stage: int
    why: str


def assign(rollout: str, plan: Plan, version: str, carts: Iterable[Cart]) -> dict[tuple[str, str], int]:
    """The stage of each cart, from 0. Those that are connected come first, else an outcome would be long in
    coming; among them the rollout's id decides, so that it is not always the same carts that go first. Carts
    that have the version, or that updates do not reach, prove nothing: they come last."""

    def place(cart: Cart) -> tuple[bool, bytes]:
        return not cart.online, hashlib.sha256("/".join((rollout, *cart.key)).encode()).digest()

    carts = [cart for cart in carts if not cart.retired]
    idle = {cart.key for cart in carts if judged(Member(*cart.key, 0), cart, version)[0] != "waiting"}
    ordered = sorted((cart for cart in carts if cart.key not in idle), key=place)
    ends = [math.ceil(share * len(ordered)) for share in plan.stages]
    stages = {
        cart.key: next(stage for stage, end in enumerate(ends) if index < end)
        for index, cart in enumerate(ordered)
    }
    return stages | dict.fromkeys(idle, len(ends) - 1)


def judged(member: Member, cart: Cart, version: str) -> tuple[MemberState, str | None]:
    """The state of a cart's update, by what it said since it was asked, with the reason."""
    if member.state in ("done", "failed", "excused"):
        return member.state, member.detail
    if cart.retired:
        return "excused", "retired"
    if cart.version is not None and _numbers(cart.version) > _numbers(version):
        return "excused", f"has {cart.version}"
    if cart.version == version and cart.settled:
        return "done", None
    if not cart.slotted:
        return "excused", "its bundle is a file of its own, which updates do not replace"
    asked = member.asked
    if member.state == "waiting" or asked is None or asked.answered_at is None:
        return member.state, member.detail
    if not asked.ok and asked.answered_at - (asked.sent_at or asked.answered_at) > _STALE_S:
        return "waiting", "the order reached it too late; it is asked again"
    if cart.said_at <= asked.answered_at or not cart.settled:
        # What it said before may be of an earlier try; what it refuses may be under way by an earlier order.
        return "ordered", None
    if not asked.ok:
        return "failed", asked.error or "refused"
    if cart.result_version == version and cart.result != "committed":
        return "failed", f"{cart.result}: {cart.reason}" if cart.reason else cart.result
    return "ordered", None


def asks(member: Member, cart: Cart, stage: int, now: float) -> bool:
    """Whether a cart is to be ordered to update now: it is its turn, it is connected, and it does not have
    the order already."""
    if not cart.online or cart.retired or member.stage > stage:
        return False
    if member.state == "waiting":
        return True
    asked = member.asked
    unanswered = member.state == "ordered" and asked is not None and asked.answered_at is None
    return unanswered and asked is not None and now - asked.ordered_at >= _AGAIN_S


def standing(
    plan: Plan,
    stage: int,
    stage_since: float,
    members: Sequence[Member],
    online: Mapping[tuple[str, str], bool],
    drifts: Sequence[str],
    now: float,
) -> Standing:
    """Where a running rollout stands.

    Args:
        plan: how it goes.
        stage: the present one, from 0.
        stage_since: when it began, or was resumed.
        members: all carts, judged.
        online: of each cart, whether it is connected.
        drifts: alarms of drift of this version since then, in words.
        now: seconds since 1970.
    """
    lost = [m for m in members if m.state == "ordered" and now - m.since > plan.patience_s]
    failed = [m for m in members if m.state == "failed"]
    done = [m for m in members if m.state == "done"]
    bad, ended = len(failed) + len(lost), len(failed) + len(lost) + len(done)
    if bad > plan.failures * ended:
        first = (failed or lost)[0]
        why = first.detail or f"no outcome for {plan.patience_s / 3600:.0f} h after its order"
        return Standing("halted", stage, f"{bad} of {ended} failed; {first.site}/{first.device}: {why}")
    if drifts:
        return Standing("halted", stage, f"drift: {drifts[0]}")
    if all(m.state in ("done", "failed", "excused") for m in members):
        return Standing("done", stage, f"{len(done)} of {len(members)} carts have it")
    turn = [m for m in members if m.stage <= stage]
    under_way = [m for m in turn if m.state == "ordered" or (m.state == "waiting" and online.get(m.key))]
    left = [m for m in members if m.stage > stage and m.state == "waiting"]
    if under_way:
        return Standing("running", stage, f"{len(under_way)} carts under way")
    if not left:
        away = sum(m.state == "waiting" for m in members)
        return Standing("running", stage, f"{away} carts are away and get it when they come")
    proven = [m.since for m in turn if m.state == "done" and m.stage == stage]
    if not proven and any(m.stage == stage and m.state == "waiting" for m in turn):
        return Standing("running", stage, "no cart of this stage is connected")
    if (rest := max([*proven, stage_since]) + plan.wait_s - now) > 0:
        return Standing("running", stage, f"watching for {rest / 3600:.1f} h more")
    return Standing("running", min(m.stage for m in left), "the next stage")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
