"""The agent's configuration: one YAML file, version 1."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from edge.schema import Contract, Label, Name, Probability, read

__all__ = [
    "AGENT_SLOT",
    "AgentConfig",
    "CaptureSource",
    "CourierConfig",
    "DicomPeer",
    "DicomSource",
    "FolderSource",
    "MqttConfig",
    "OutboxConfig",
    "PacsConfig",
    "RepositoryPlace",
    "ScreenConfig",
    "SlotConfig",
    "Source",
    "SpoolConfig",
    "ThresholdPolicy",
    "Tls",
    "UpdateConfig",
    "load_config",
]

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Language = Literal["en", "zh", "fr", "es", "ar"]
LogLevel = Literal["debug", "info", "warning", "error"]
Overlays = Literal["never", "demand", "positive", "always"]
MeteredBytes = Annotated[int, Field(ge=200_000)]
AGENT_SLOT = "agent"
"""Name of the agent's own slot."""

_WINDOW = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
AeTitle = Annotated[str, StringConstraints(pattern=r"^([!-\[\]-~][ -\[\]-~]{0,14})?[!-\[\]-~]$")]
"""PS3.5 6.2: 1 to 16 printable ASCII characters but the backslash, spaces within only; case matters."""


def _reachable(place: str) -> str:
    scheme, separator, rest = place.partition("://")
    if separator and (scheme.lower() not in ("http", "https") or not rest.strip("/")):
        raise ValueError(f"'{place}': give a folder, or an http or https URL")
    return place


RepositoryPlace = Annotated[str, AfterValidator(_reachable)]
"""A folder, or an http or https URL."""


class Tls(Contract):
    """TLS: the authority that the other side is verified against; with certificate and key, mutual."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


class DicomPeer(Contract):
    """Where an application entity listens."""

    host: str
    port: Port = 104


class FolderSource(Contract):
    """A folder that images (PNG, JPEG, …) and DICOM files are dropped into, at any depth."""

    kind: Literal["folder"] = "folder"
    name: Name = "folder"
    path: Path
    poll_s: Seconds = 0.5
    settle_s: Seconds = Field(
        default=1.0, description="a file is taken once it has not changed for this long"
    )


class CaptureSource(Contract):
    """A video file, a camera, or a stream: RTSP, motion JPEG over HTTP, or OpenIGTLink.

    Of a file every frame is taken; of a camera or a stream the newest, and a lost one is opened again.
    """

    kind: Literal["capture"] = "capture"
    name: Name = "capture"
    url: str | int = Field(
        description="path of a video file, index of a camera, or a URL: rtsp:, http: or igtl: (OpenIGTLink,"
        " igtl://HOST:18944/DEVICE, which needs the extra 'openigtlink')"
    )
    every: int = Field(default=1, ge=1, description="take one frame of so many")
    open_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 5.0
    retry_s: Seconds = 2.0
    tell_s: Seconds = Field(
        default=1.0,
        description="of a camera or stream, a finding that says what the last said is told once in so long",
    )
    modality: str | None = Field(
        default=None, description="DICOM term of what the pictures are (US, DX, …), to choose the bundles by"
    )
    find_scan: bool = Field(
        default=False,
        description="the picture is an ultrasound machine's screen: cut it to the scan, or give no result",
    )

    @property
    def is_file(self) -> bool:
        """Whether it ends: a file, no camera and no stream."""
        return isinstance(self.url, str) and "://" not in self.url and not self.url.startswith("/dev/")


class DicomSource(Contract):
    """A DICOM storage SCP that modalities send images to (C-STORE)."""

    kind: Literal["dicom"] = "dicom"
    name: Name = "dicom"
    ae_title: AeTitle = Field(default="SCANWRIGHT", description="its own; an association must call it so")
    host: str = Field(default="0.0.0.0", description="address to listen on; this one means all")
    port: Port = 11112
    callers: Annotated[tuple[AeTitle, ...], Field(min_length=1)] = Field(
        description="AE titles of those who may send; all others are refused"
    )
    max_associations: int = Field(
        default=8, ge=1, le=100, description="at once; one address may hold half of them, rounded up"
    )
    idle_timeout_s: Seconds = Field(
        default=30.0, description="an association that says nothing for this long is ended"
    )
    min_free_mb: int = Field(
        default=500, ge=1, description="with less room on the state folder's disk, objects are refused"
    )
    tls: Tls | None = Field(
        default=None, description="listen by TLS only; callers show a certificate of the authority"
    )
    commitment: dict[AeTitle, DicomPeer] = Field(
        default={},
        description="storage commitment for these callers, and where each listens for the report; needs pacs",
    )

    @model_validator(mode="after")
    def _agrees(self) -> DicomSource:
        if self.tls and self.tls.certificate is None:
            raise ValueError("tls: needs a certificate and its key, which callers verify")
        if unknown := sorted(set(self.commitment) - set(self.callers)):
            raise ValueError(f"commitment: '{unknown[0]}' is not among the callers")
        return self


Source = Annotated[FolderSource | CaptureSource | DicomSource, Field(discriminator="kind")]


class MqttConfig(Contract):
    """The broker."""

    host: str = "127.0.0.1"
    port: Port = 1883
    protocol: Literal["5", "3.1.1"] = "5"
    username: str | None = None
    password_file: Path | None = None
    tls: Tls | None = None
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    metered_bytes_a_day: MeteredBytes | None = Field(
        default=None,
        description="bytes that the link to the broker may carry in a day (UTC), headers included",
    )
    receipts: bool = Field(
        default=False,
        description="keep each finding until its id comes back on down/ack, not just until PUBACK",
    )
    discovery_prefix: Name | None = Field(
        default=None,
        description="tell Home Assistant what the device has to show, below this first part of the topic;"
        " Home Assistant listens below 'homeassistant'",
    )


class ScreenConfig(Contract):
    """The cart's own read-only screen."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes a free one")
    pin_file: Path | None = Field(
        default=None,
        description="made by 'scanwright agent pin'; without it the screen never shows whose a result is",
    )


class ThresholdPolicy(Contract):
    """Thresholds that a site moves, within the limits that each bundle sets; findings name the policy."""

    name: Name
    thresholds: dict[Label, Probability] = {}


class OutboxConfig(Contract):
    """How much may wait for the broker beside findings, of which none is ever dropped."""

    megabytes: int = Field(
        default=64, ge=1, description="beyond it the oldest overlays are dropped, then the oldest events"
    )
    days: float = Field(default=30, gt=0, description="events and overlays that wait for longer are dropped")


class SpoolConfig(Contract):
    """The encrypted spool of DICOM originals, and when they are let go."""

    days: float = Field(default=30, gt=0, description="forwarded files, or all if no PACS is set, go then")
    megabytes: int = Field(default=4096, ge=1, description="beyond it the oldest forwarded file goes first")
    keep_free_megabytes: int = Field(default=512, ge=0, description="of the disk; as for megabytes")


class PacsConfig(Contract):
    """The archive that originals are forwarded to by C-STORE, whenever it is reached."""

    host: str
    port: Port = 104
    ae_title: AeTitle = Field(description="the archive's application entity title")
    calling_ae_title: AeTitle = "SCANWRIGHT"
    tls: Tls | None = None
    results: tuple[Literal["report", "capture"], ...] = Field(
        default=(),
        description="of each closed study a structured report (TID 1500), a secondary capture of the best"
        " positive finding, or both",
    )


class SlotConfig(Contract):
    """A bundle that updates may replace, known by its name. An empty slot is filled from the repository."""

    slot: Name


class UpdateConfig(Contract):
    """Where newer bundles and agents come from, whom they must be signed by, and how they prove themselves.

    Only what the pinned root vouches for is ever taken, wherever it came from.
    """

    repositories: Annotated[tuple[RepositoryPlace, ...], Field(min_length=1)] = Field(
        description="where the release repository is to be had: folders (of the card, of a stick when it is"
        " in) or http(s) URLs; the first that has what is wanted is taken"
    )
    root: Path = Field(description="the pinned root: root.json of 'scanwright keys release init'")
    tls: Tls | None = Field(default=None, description="for https; without it the system's authorities count")
    agent: bool = Field(
        default=False,
        description="the agent itself is started by the launcher and updated, too, as the slot 'agent'",
    )
    automatic: bool = Field(
        default=False, description="take newer versions without a command, within the window"
    )
    window: Annotated[str, StringConstraints(pattern=_WINDOW)] | None = Field(
        default=None,
        description="when automatic updates may begin, in the cart's local time, such as 22:00-05:00",
    )
    look_s: Seconds = Field(default=3600.0, description="how often automatic updates are looked for")
    shadow_frames: int = Field(
        default=20,
        ge=0,
        le=200,
        description="so many of the last real frames a new bundle is asked about, unseen, before it is used",
    )
    agreement: Probability = Field(
        default=0.8, description="least share of these that it must decide as the present bundle did"
    )
    slowdown: Annotated[float, Field(ge=1)] = Field(
        default=2.0, description="most that its time a frame may be of the present bundle's, beyond 50 ms"
    )
    health_s: Seconds = Field(
        default=600.0, description="how long it is watched in use before it is committed"
    )


class CourierConfig(Contract):
    """The stick that carries between this cart and headquarters where no network does.

    What it takes along is sealed to headquarters, and signed with the key of ``mqtt.tls``.
    """

    mount: Path = Field(description="where sticks are mounted")
    hq_key: Path = Field(description="headquarters' public key: hq.pub of 'scanwright courier keys'")
    crl: Path | None = Field(
        default=None, description="where a broker on this machine has its revocation list, to be kept current"
    )


class AgentConfig(Contract):
    """``agent.yaml``. Relative paths are taken from the folder of the file."""

    schema_version: Literal[1] = 1
    site: Name
    device: Name
    target: Name | None = None
    state: Path = Field(description="folder of the outbox, the store, the keys and the quarantine")
    bundles: Annotated[tuple[Path | SlotConfig, ...], Field(min_length=1)]
    allow_unsigned: bool = Field(default=False, description="run bundles without proof of origin, and say so")
    interpreter: Literal["auto", "ai-edge-litert", "tflite-runtime", "onnxruntime"] = Field(
        default="auto",
        description="auto runs a bundle's model.onnx where there is a GPU; onnxruntime, on the CPU too",
    )
    threads: int = Field(default=1, ge=1, le=64)
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    policy: ThresholdPolicy | None = None
    mqtt: MqttConfig = MqttConfig()
    screen: ScreenConfig | None = ScreenConfig()
    outbox: OutboxConfig = OutboxConfig()
    spool: SpoolConfig = SpoolConfig()
    pacs: PacsConfig | None = None
    update: UpdateConfig | None = None
    courier: CourierConfig | None = None
    health_s: Seconds = 60.0
    study_silence_s: Seconds = Field(
        default=30.0, description="a study closes after this long without a frame"
    )
    min_free_mb: int = Field(
        default=100, ge=1, description="with less room on the state folder's disk no new image is taken"
    )
    keep_days: float = Field(
        default=30, gt=0, description="how long the screen's store keeps a delivered finding"
    )
    overlays: Overlays = Field(
        default="never",
        description="heat maps by MQTT: none, those the command 'overlay' asks for, or by themselves too",
    )
    language: Language = "en"
    log_level: LogLevel = "info"

    @model_validator(mode="after")
    def _source_names_differ(self) -> AgentConfig:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("sources: two sources have the same name; give each its own")
        if self.pacs is None and any(isinstance(s, DicomSource) and s.commitment for s in self.sources):
            raise ValueError("sources: commitment needs pacs: the archive that images are safe in")
        return self

    @model_validator(mode="after")
    def _courier_can_sign(self) -> AgentConfig:
        if self.courier and not (self.mqtt.tls and self.mqtt.tls.key):
            raise ValueError(
                "courier: needs mqtt.tls with certificate and key: what leaves is signed by them"
            )
        return self

    @model_validator(mode="after")
    def _slots_can_be_filled(self) -> AgentConfig:
        slots = [bundle.slot for bundle in self.bundles if isinstance(bundle, SlotConfig)]
        if slots and self.update is None:
            raise ValueError(f"bundles: slot '{slots[0]}' needs update: where its bundle comes from")
        if AGENT_SLOT in slots or len(set(slots)) != len(slots):
            raise ValueError(f"bundles: each slot once, and none is called '{AGENT_SLOT}'")
        return self


def load_config(path: Path) -> AgentConfig:
    """Read ``agent.yaml``; the paths of the result are absolute.

    Raises:
        BadInputError: see :func:`edge.schema.read`.
    """
    config = read(path, AgentConfig)
    base = path.absolute().parent

    def source(given: Source) -> Source:
        if isinstance(given, FolderSource):
            return given.model_copy(update={"path": base / given.path})
        if isinstance(given, CaptureSource) and isinstance(given.url, str) and "://" not in given.url:
            return given.model_copy(update={"url": str(base / given.url)})
        return (
            given.model_copy(update={"tls": secured(given.tls)}) if isinstance(given, DicomSource) else given
        )

    def below(model: Contract, *names: str) -> dict[str, Path]:
        return {name: base / value for name in names if (value := getattr(model, name)) is not None}

    def secured(tls: Tls | None) -> Tls | None:
        return tls and tls.model_copy(update=below(tls, "ca", "certificate", "key"))

    def updated(update: UpdateConfig) -> UpdateConfig:
        places = tuple(place if "://" in place else str(base / place) for place in update.repositories)
        if config.courier:
            places += (str(base / config.state / "courier" / "repository"),)
        changes = {"repositories": places, "root": base / update.root, "tls": secured(update.tls)}
        return update.model_copy(update=changes)

    screen, pacs, courier = config.screen, config.pacs, config.courier
    mqtt = config.mqtt.model_copy(
        update=below(config.mqtt, "password_file") | {"tls": secured(config.mqtt.tls)}
    )
    return config.model_copy(
        update={
            "state": base / config.state,
            "bundles": tuple(base / b if isinstance(b, Path) else b for b in config.bundles),
            "sources": tuple(source(given) for given in config.sources),
            "mqtt": mqtt,
            "pacs": pacs and pacs.model_copy(update={"tls": secured(pacs.tls)}),
            "update": config.update and updated(config.update),
            "courier": courier and courier.model_copy(update=below(courier, "mount", "hq_key", "crl")),
            "screen": screen and screen.model_copy(update=below(screen, "pin_file")),
        }
    )
