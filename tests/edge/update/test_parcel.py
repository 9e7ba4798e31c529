from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sites import SiteKeys, site_keys

from edge.errors import BadInputError
from edge.update.parcel import (
    Head,
    Item,
    ParcelError,
    Signer,
    check_recipient,
    open_parcel,
    seal,
    write_items,
)

KEYS = site_keys()
ITEMS = st.lists(
    st.builds(
        Item.of,
        st.sampled_from(["finding", "event", "overlay", "birth", "health", "audit"]),
        st.binary(max_size=300),
        st.text("abc/123", max_size=40),
        st.text("abc123", max_size=32),
    ),
    max_size=8,
)


def head(keys: SiteKeys = KEYS, **changes) -> Head:
    said = {
        "site": keys.site,
        "device": keys.device,
        "id": "ab" * 16,
        "number": 7,
        "made": datetime(2026, 11, 20, tzinfo=timezone.utc),
        "clock_trusted": False,
        "token": "cd" * 32,
        "certificate": keys.cart.certificate.decode(),
    }
    return Head(**said | changes)


def plain(items=(), head_: Head | None = None, keys: SiteKeys = KEYS) -> bytes:
    text = io.BytesIO()
    write_items(text, head_ or head(keys), items, Signer(keys.cart.certificate, keys.cart.key))
    return text.getvalue()


def sealed(text: bytes, public: str = KEYS.public) -> bytes:
    target = io.BytesIO()
    seal(io.BytesIO(text), target, public)
    return target.getvalue()


def opened(data: bytes, keys: SiteKeys = KEYS, revoked=(), authorities=None):
    given_ = [keys.ca.certificate] if authorities is None else authorities
    return open_parcel(io.BytesIO(data), io.BytesIO(), KEYS.secret, given_, revoked)


# Made once: a signature's length varies.
TEXT = plain([Item.of("finding", b"x" * 200, "f1"), Item.of("event", b"{}", "e1")])
WHOLE = sealed(TEXT)


@given(ITEMS)
@settings(deadline=None)
def test_what_was_packed_comes_out(items) -> None:
    found = opened(sealed(plain(items)))
    assert found.head == head() and not found.expired
    assert list(found.items()) == items
    assert [item.data() for item in found.items()] == [item.data() for item in items]


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_changed_or_missing_byte_is_noticed(data) -> None:
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    changed = bytearray(WHOLE)
    changed[place] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(changed), WHOLE[:place], WHOLE + b"x"):
        with pytest.raises(ParcelError) as refusal:
            opened(broken)
        assert refusal.value.code in ("damaged", "other_key") and "\n" not in str(refusal.value)


@given(st.data())
@settings(deadline=None)
def test_inside_the_seal_too_any_changed_byte_is_noticed(data) -> None:
    """Everybody can seal to headquarters; what proves where it is from is the signature."""
    place = data.draw(st.integers(0, len(TEXT) - 1))
    changed = bytearray(TEXT)
    changed[place] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(changed), TEXT[:place], TEXT + b"{}\n"):
        with pytest.raises(ParcelError) as refusal:
            opened(sealed(broken))
        assert refusal.value.code in ("damaged", "forged", "other_site")


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_whatever_is_sealed_is_a_parcel_or_refused(text) -> None:
    with pytest.raises(ParcelError):
        opened(sealed(text))
    with pytest.raises(ParcelError):
        opened(text)


def test_another_headquarters_parcel_is_named() -> None:
    other = str(pyrage.x25519.Identity.generate().to_public())
    with pytest.raises(ParcelError, match="another headquarters") as refusal:
        opened(sealed(plain(), other))
    assert refusal.value.code == "other_key"


def test_a_cart_cannot_speak_for_another() -> None:
    for changes in ({"device": "cart-2"}, {"site": "elsewhere"}):
        with pytest.raises(ParcelError, match="its certificate is another's"):
            opened(sealed(plain(head_=head(**changes))))


def test_a_stranger_cannot_speak_for_a_cart() -> None:
    stranger = SiteKeys(KEYS.site, KEYS.device)  # the same names, another authority
    with pytest.raises(ParcelError, match="no authority that was given") as refusal:
        opened(sealed(plain(keys=stranger)), authorities=[KEYS.ca.certificate])
    assert refusal.value.code == "other_site"
    stolen = head(certificate=KEYS.cart.certificate.decode())  # a certificate is no secret
    with pytest.raises(ParcelError, match="not signed by the certificate"):
        opened(sealed(plain(head_=stolen, keys=stranger)))


def test_a_revoked_cart_is_not_believed_and_one_that_expired_is() -> None:
    with pytest.raises(ParcelError, match="taken back"):
        opened(sealed(plain()), revoked=[KEYS.revocations(KEYS.cart.serial)])
    assert opened(sealed(plain()), revoked=[KEYS.revocations(4)]).head.number == 7
    late = head(made=KEYS.cart.expires + timedelta(days=1))
    assert opened(sealed(plain(head_=late))).expired


def test_more_than_a_parcel_may_have_is_not_unpacked(monkeypatch) -> None:
    from edge.update import parcel

    monkeypatch.setattr(parcel, "LARGEST", 100_000)
    with pytest.raises(ParcelError, match="damaged"):
        opened(sealed(b"x" * 200_000))


def test_what_is_no_key_is_said() -> None:
    with pytest.raises(BadInputError, match="age1"):
        check_recipient("ssh-ed25519 AAAA")
    assert check_recipient(f"{KEYS.public}\n") == KEYS.public
    with pytest.raises(BadInputError, match="AGE-SECRET-KEY-1"):
        open_parcel(io.BytesIO(b""), io.BytesIO(), "nothing", [], [])
    with pytest.raises(BadInputError, match="is none"):
        opened(WHOLE, authorities=[b"nothing"])
    with pytest.raises(BadInputError, match=r"mqtt\.tls"):
        Signer(b"", b"")
