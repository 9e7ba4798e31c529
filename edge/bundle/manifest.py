"""The manifest: what a bundle says about its model, version 1 of the contract between trainer and cart."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from edge.bundle.steps import Grayscale, Resize, Rgb, Steps
from edge.schema import Contract, Label, Name, Probability

__all__ = [
    "Calibration",
    "Decision",
    "Fingerprint",
    "InputSpec",
    "IntendedUse",
    "Interval",
    "LabelMetrics",
    "Manifest",
    "Operator",
    "OutOfDistribution",
    "OutputSpec",
    "Provenance",
    "QualityLimits",
    "Range",
    "Runtime",
    "Source",
    "Threshold",
    "VariantMetrics",
]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
Modality = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,16}$")]
Task = Literal["single-label", "multi-label", "segmentation"]


class IntendedUse(Contract):
    """What the model is for. Empty lists and absent ages mean "not restricted".

    ``modality`` and ``body_part`` and ``view`` hold DICOM terms: Modality (0008,0060), Body Part Examined
    (0018,0015), View Position (0018,5101).
    """

    statement: str = Field(min_length=1, max_length=2000, description="in words, for people")
    modality: tuple[Modality, ...] = ()
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    min_age_years: Annotated[float, Field(ge=0, le=150)] | None = None
    max_age_years: Annotated[float, Field(ge=0, le=150)] | None = None


class InputSpec(Contract):
    """The input tensor ``[1, height, width, channels]``.

    A pixel ``p`` (0..255) of channel ``c`` stands for ``(p - mean[c]) / std[c]``; a quantized tensor holds
    ``round(that / scale) + zero_point``. With mean 128, std 128, scale 1/128 and zero point 0 that is exactly
    ``p - 128``.
    """

    height: Annotated[int, Field(ge=8, le=2048)]
    width: Annotated[int, Field(ge=8, le=2048)]
    channels: Literal[1, 3]
    dtype: Literal["int8", "uint8", "float32"] = "int8"
    scale: float = Field(default=1 / 128, gt=0)
    zero_point: int = 0
    mean: tuple[float, ...] = (128.0,)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (128.0,)

    @model_validator(mode="after")
    def _per_channel(self) -> InputSpec:
        if len(self.mean) not in (1, self.channels) or len(self.std) not in (1, self.channels):
            raise ValueError("mean and std need one value, or one a channel")
        return self


class OutputSpec(Contract):
    """One output tensor: ``logits[1,C]``, ``cam[1,h,w,C]``, ``embedding[1,D]`` or ``mask[1,H,W,K]``."""

    name: Literal["logits", "cam", "embedding", "mask"]
    index: int = Field(ge=0, description="position among the interpreter's outputs")
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: Literal["int8", "uint8", "float32"] = "int8"
    scale: float = Field(default=1.0, gt=0)
    zero_point: int = 0


class Threshold(Contract):
    """Operating threshold on a label's calibrated probability, and how far a site may move it."""

    value: Probability
    min: Probability = 0.0
    max: Probability = 1.0

    @model_validator(mode="after")
    def _inside(self) -> Threshold:
        if not self.min <= self.value <= self.max:
            raise ValueError("needs min <= value <= max")
        return self


class OutOfDistribution(Contract):
    """Mahalanobis distance of the embedding, whitened by ``ood.npz`` (``mean[D]``, ``whitening[D, k]``).

    The score is ``||(embedding - mean) @ whitening||``; above ``limit`` there is no result. Lee et al. 2018.
    With a ``layout`` the score is the larger of that and ``||(layout - layout_mean) @ layout_whitening||``,
    where the layout is the model's input image in gray, resized (``area``) to ``layout x layout``, less its
    mean, over its standard deviation (zeros where that is 0). A model without an embedding has the layout
    only, with ``D`` 0.
    """

    method: Literal["mahalanobis"] = "mahalanobis"
    limit: float = Field(gt=0)
    rejection: Probability = Field(
        description="share of in-distribution images the limit was fitted to reject"
    )
    layout: Annotated[int, Field(ge=0, le=32)] = Field(
        default=0, description="side of the layout in cells; 0 is none"
    )


class Decision(Contract):
    """From logits to a decision.

    Probabilities are ``softmax(logits / temperature)`` (multi-label and segmentation: sigmoid). A
    segmentation's logits say whether the image shows each class; the first's, the background's, that it shows
    no other. A label with a threshold is positive at or above it; if several are, the one furthest above in
    ``p / threshold`` is named. Below ``abstain_below`` (largest probability) the result is withheld as
    uncertain.
    """

    temperature: float = Field(default=1.0, gt=0)
    negative_label: Label | None = None
    thresholds: dict[Label, Threshold]
    target_sensitivity: Probability | None = None
    abstain_below: Probability = 0.0
    ood: OutOfDistribution | None = None


class Range(Contract):
    """A closed interval."""

    min: float
    max: float


class QualityLimits(Contract):
    """Image measures outside which there is no result; each is defined in ``edge.imaging.quality``."""

    min_side: int = Field(default=16, ge=1, description="pixels")
    brightness: Range = Range(min=4, max=251)
    contrast: Range = Range(min=4, max=128)
    sharpness: Range = Range(min=0, max=1e9)
    max_colour: float = Field(default=255, ge=0)


class Operator(Contract):
    """An operator of the model, as the TFLite schema names it, with its version."""

    name: str
    version: int = Field(ge=1)


class Runtime(Contract):
    """What the model needs of an interpreter."""

    format: Literal["tflite"] = "tflite"
    operators: tuple[Operator, ...]
    min_version: str = Field(description="least TensorFlow Lite version whose operators cover the model's")


class Fingerprint(Contract):
    """The training images: first 6 bytes of SHA-256 over shape and pixels of each, sorted, joined, base64."""

    algorithm: Literal["sha256-48"] = "sha256-48"
    count: int = Field(ge=0)
    hashes: str


class Calibration(Contract):
    """The images that set the quantization ranges."""

    count: int = Field(ge=0)
    sha256: Sha256


class Source(Contract):
    """The file that a model which was trained elsewhere was brought in."""

    format: Literal["keras", "saved-model", "onnx", "tflite"]
    sha256: Sha256 = Field(description="of the file; of a folder, over its files' names and contents")
    notes: tuple[str, ...] = Field(default=(), description="what was changed or could not be recovered")


class Provenance(Contract):
    """Where the model comes from.

    A brought model has a ``source`` and no recipe or seed to name; its ``training_data`` are the images that
    calibrated it and fitted its decisions, as nobody knows which ones its weights were learned from.
    """

    created: str = Field(description="date of the training, ISO 8601")
    recipe: dict[str, object] | None = None
    seed: int | None = None
    training_data: Fingerprint | None = None
    calibration: Calibration | None = None
    tools: dict[str, str] = {}
    source: Source | None = None


class Interval(Contract):
    """An estimate with its bootstrap confidence interval at ``level``."""

    value: float
    low: float
    high: float
    level: Probability = 0.95


class LabelMetrics(Contract):
    """One label against the rest, at the argmax; in a segmentation, images that show it against others."""

    n: int = Field(ge=0)
    auroc: Interval | None = None
    sensitivity: Interval | None = None
    specificity: Interval | None = None
    precision: float | None = None
    f1: float | None = None
    dice: Interval | None = Field(default=None, description="overlap of the masks, in a segmentation")
    iou: Interval | None = None


class VariantMetrics(Contract):
    """Held-out results of one variant of the model."""

    split: str
    n: int = Field(ge=0)
    auroc: Interval | None = None
    accuracy: Interval | None = None
    dice: Interval | None = Field(
        default=None, description="of a segmentation's masks, the mean over the labels but the background"
    )
    iou: Interval | None = None
    ece: float | None = None
    model_bytes: int = Field(ge=0)
    per_class: dict[Label, LabelMetrics] = {}


class Manifest(Contract):
    """``manifest.json`` of a bundle."""

    schema_version: Literal[1] = 1
    name: Name
    version: Version
    intended_use: IntendedUse
    task: Task
    labels: Annotated[tuple[Label, ...], Field(min_length=2, max_length=256)]
    input: InputSpec
    steps: Steps
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1, max_length=4)]
    decision: Decision
    quality: QualityLimits
    runtime: Runtime
    target: Name
    provenance: Provenance
    ejection_fraction: Label | None = Field(
        default=None,
        description="segmentation: the label of the left ventricle's cavity, of which the cart gives the "
        "ejection fraction of a cine",
    )
    metrics: dict[Literal["float", "pruned", "int8"], VariantMetrics] = {}
    members: dict[str, Sha256] = Field(default={}, description="SHA-256 of every other member of the bundle")

    @model_validator(mode="after")
    def _agrees(self) -> Manifest:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: a label stands twice")
        names = [output.name for output in self.outputs]
        if "logits" not in names or len(set(names)) != len(names):
            raise ValueError("outputs: need logits once, and no output twice")
        unknown = set(self.decision.thresholds) - set(self.labels)
        if unknown or self.decision.negative_label not in (None, *self.labels):
            raise ValueError("decision: names a label that the model does not have")
        if self.decision.ood and not self.decision.ood.layout and "embedding" not in names:
            raise ValueError("decision.ood: needs an embedding output or a layout")
        if self.ejection_fraction is not None and (
            "mask" not in names or self.ejection_fraction not in self.labels[1:]
        ):
            raise ValueError("ejection_fraction: needs a mask output, and a label other than the background")
        self._steps_fit_input()
        return self

    def _steps_fit_input(self) -> None:
        size = [step for step in self.steps if isinstance(step, Resize)]
        colour = [step for step in self.steps if isinstance(step, Grayscale | Rgb)]
        last_changes_size = [step for step in self.steps if step.op in ("resize", "crop", "pad")]
        if not size or last_changes_size[-1] is not size[-1]:
            raise ValueError("steps: the last step that changes the size must be a resize")
        if (size[-1].height, size[-1].width) != (self.input.height, self.input.width):
            raise ValueError("steps: the last resize does not give the input's height and width")
        if not colour or isinstance(colour[-1], Grayscale) != (self.input.channels == 1):
            raise ValueError("steps: need a last 'grayscale' for 1 input channel, a last 'rgb' for 3")
