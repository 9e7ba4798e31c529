"""The messages, version 1: JSON payloads that device and headquarters exchange."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from edge.bundle.manifest import Sha256, Version
from edge.bundle.reasons import Reason
from edge.schema import Contract, Label, Name, Probability

__all__ = [
    "Ack",
    "Birth",
    "BundleRef",
    "Command",
    "Event",
    "Evidence",
    "Finding",
    "Health",
    "Measurement",
    "Response",
    "Severity",
    "SlotStatus",
    "Stamp",
]

Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
CaseCode = Annotated[str, StringConstraints(pattern=r"^[0-9A-Z]{4}-[0-9A-Z]{4}$")]
Severity = Literal["info", "warning", "error"]
Milliseconds = Annotated[float, Field(ge=0)]


class Stamp(Contract):
    """When something happened, for carts whose clock may be wrong: wall clock, whether it was trusted, and
    seconds of the boot's monotonic clock."""

    at: AwareDatetime
    clock_trusted: bool
    monotonic_s: float = Field(ge=0)
    boot_id: str
    corrected_at: AwareDatetime | None = Field(
        default=None, description="what ``at`` should have said: the clock became known later in that boot"
    )


class BundleRef(Contract):
    """The bundle that was used. ``signed`` is false where it was loaded without proof of origin."""

    name: Name
    version: Version
    sha256: Sha256
    target: Name
    signed: bool


class SlotStatus(Contract):
    """One slot that updates go into: a bundle, or the agent itself (``agent``)."""

    name: Name
    version: Version | None = Field(default=None, description="in use; of an agent, the running one's")
    previous: Version | None = Field(default=None, description="kept, and used again by 'rollback'")
    pending: Version | None = Field(default=None, description="being fetched, or on trial")
    state: Literal["idle", "fetching", "proving", "trial"] = Field(
        default="idle",
        description="proving: unseen, beside the present one; trial: in use, but not committed yet",
    )
    result: Literal["committed", "refused", "rolled_back"] | None = Field(
        default=None, description="of the last update"
    )
    result_version: Version | None = Field(default=None, description="that the result is about")
    reason: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")] | None = Field(
        default=None, description="why it was refused or rolled back, as a code"
    )


class Evidence(Contract):
    """What the decision rests on, beside the probabilities."""

    ood_score: float | None = None
    ood_limit: float | None = None
    peak: tuple[Probability, Probability] | None = Field(
        default=None, description="row and column of the activation map's maximum, as fractions of the image"
    )
    quality: dict[str, float] = {}
    area: dict[Label, Probability] | None = Field(
        default=None, description="segmentation: share of the image that each class covers"
    )
    overlay: bool = Field(default=False, description="an overlay is, or will be, published for this id")


class Measurement(Contract):
    """Something measured in what a segmentation outlined, or why it could not be.

    ``area`` is of a label in this frame: in ``cm2`` where the image says how large its pixels are, else in
    ``{pixel}`` of the image. ``ejection_fraction`` (%), ``end_diastolic_volume`` and ``end_systolic_volume``
    (mL) are of the clip up to this frame, by the single-plane area-length method in an apical view (Lang et
    al. 2015).
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    label: Label
    value: float | None
    unit: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,32}$")] = Field(description="UCUM code")
    reason: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")] | None = Field(
        default=None, description="why there is no value, as a code"
    )
    frames: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="frames that it rests on: of a ventricle, end-diastole and end-systole"
    )


class Finding(Contract):
    """What the cart has to say of one frame, or "no result, because …". Decision support, not a diagnosis.

    ``id`` is a keyed hash of the image's identity and the bundle: a re-sent image gives the same id.
    """

    schema_version: Literal[1] = 1
    id: Id
    site: Name
    device: Name
    stamp: Stamp
    case_code: CaseCode = Field(description="short human code of the study, never an identity")
    study: Id = Field(description="keyed hash of the study")
    source: Name = Field(description="the configured source's name")
    frame: int = Field(default=0, ge=0, description="index within the study's instance or clip")
    bundle: BundleRef
    decision: Literal["positive", "negative", "no_result"]
    label: Label | None = None
    probability: Probability | None = None
    probabilities: dict[Label, Probability] = {}
    thresholds: dict[Label, Probability] = {}
    reasons: tuple[Reason, ...] = ()
    evidence: Evidence = Evidence()
    measurements: tuple[Measurement, ...] = ()
    elapsed_ms: dict[str, Milliseconds] = {}
    policy: str | None = Field(default=None, description="the site policy that moved a threshold, if any")
    test: bool = Field(default=False, description="a practice or self-test finding")
    backfill: bool = Field(default=False, description="published late: the device was offline, or restarted")


class Birth(Contract):
    """What the device is, said at every connect."""

    schema_version: Literal[1] = 1
    site: Name
    device: Name
    stamp: Stamp
    agent_version: str
    target: Name | None
    interpreter: str
    bundles: tuple[BundleRef, ...]
    started: AwareDatetime
    settings_revision: int = Field(default=0, ge=0, description="of the settings changed from afar")
    settings_trial: bool = Field(default=False, description="they are not confirmed yet")
    slots: tuple[SlotStatus, ...] = ()


class Health(Contract):
    """How the device is."""

    schema_version: Literal[1] = 1
    stamp: Stamp
    uptime_s: float = Field(ge=0)
    frames: int = Field(ge=0, description="since start")
    findings: int = Field(ge=0, description="since start")
    quarantined: int = Field(ge=0, description="since start")
    backlog: int = Field(ge=0, description="messages waiting in the outbox")
    backlog_oldest_s: float | None = None
    last_frame: AwareDatetime | None = None
    last_result: AwareDatetime | None = Field(
        default=None, description="when a frame last gave a result, and of which case"
    )
    last_case: CaseCode | None = None
    inference_ms: Milliseconds | None = Field(default=None, description="median of the last 100 frames")
    disk_free_mb: float = Field(ge=0)
    memory_mb: float = Field(ge=0)
    disk_days: float | None = Field(
        default=None, description="until the disk is full, as it filled over the last days"
    )
    temperature_celsius: float | None = None
    throttling: tuple[
        Literal["under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"], ...
    ] = ()
    storage_wear_percent: float | None = Field(
        default=None, description="used life of the eMMC, by its own count; SD cards keep none"
    )
    load: float = Field(ge=0)
    set_aside: int = Field(default=0, ge=0, description="messages that the broker never takes, kept here")
    dropped: int = Field(
        default=0, ge=0, description="events and overlays dropped by the outbox's caps, ever"
    )
    metered_bytes: int | None = Field(
        default=None, description="what the metered link carried today; null without a cap"
    )
    refusing: bool = Field(
        default=False, description="no new image is taken: the disk is full, read-only or failing"
    )
    certificate_days: float | None = Field(
        default=None, description="until the certificate for the broker, or its authority, ends"
    )
    slots: tuple[SlotStatus, ...] = ()


class Event(Contract):
    """Something that a person may want to know. ``data`` holds no identity."""

    schema_version: Literal[1] = 1
    id: Id
    stamp: Stamp
    severity: Severity
    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    message: str = Field(max_length=1000)
    data: dict[str, str | int | float | bool | None] = {}


class Command(Contract):
    """An order to the device; its name is the topic's last part. A nonce is taken once."""

    schema_version: Literal[1] = 1
    correlation_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    issued_at: AwareDatetime
    nonce: Annotated[str, StringConstraints(min_length=8, max_length=64)]
    arguments: dict[str, str | int | float | bool | None] = {}


class Response(Contract):
    """The answer to a Command."""

    schema_version: Literal[1] = 1
    correlation_id: str
    ok: bool
    error: str | None = None
    result: dict[str, str | int | float | bool | None] = {}


class Ack(Contract):
    """Ids that the receiver has stored durably; the device may let them go."""

    ids: Annotated[tuple[Id, ...], Field(max_length=1000)]
