"""A bundle in use: opened, proven on this device by its golden vectors, and asked about frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from edge.agent.config import AgentConfig, SlotConfig, ThresholdPolicy
from edge.agent.state import SLOTS
from edge.bundle.archive import open_bundle
from edge.bundle.golden import Golden
from edge.bundle.manifest import IntendedUse
from edge.errors import BadInputError
from edge.imaging.frame import Frame, Header
from edge.inference.decision import Outcome, decide, site_thresholds
from edge.inference.engine import Interpreter
from edge.inference.prediction import Prediction
from edge.inference.predictor import Predictor, replay
from edge.mqtt.payloads import BundleRef
from edge.update.slots import BUNDLE, Slot

__all__ = ["Model", "Refs", "check_policy", "covering", "covers", "load_models", "load_version"]


class Model:
    """One bundle of the configuration.

    ``ref``, ``manifest``, ``engine`` (its name), ``not_accelerated`` (why no GPU is used, if one should be),
    ``golden_difference`` (largest difference of the golden vectors on this device, in steps) and ``policy``
    (name of the site policy that moves a threshold, or None) are public.
    """

    def __init__(
        self, path: Path, *, allow_unsigned: bool, target: str | None, threads: int, interpreter: Interpreter,
        policy: ThresholdPolicy | None = None, cache: Path | None = None, signed_sha256: str | None = None,
    ) -> None:  # fmt: skip
        """Open, check and try the bundle. ``signed_sha256``: of the file that the repository vouched for.

        Raises:
            BadInputError: it is damaged, not signed though it has to be, made for another target, or the
                policy moves a threshold further than it allows.
            ScanwrightError: this device's interpreter does not run it as it should.
        """
        bundle = open_bundle(path)
        self.manifest = bundle.manifest
        if target is not None and bundle.manifest.target != target:
            raise BadInputError(
                f"{path}: made for target '{bundle.manifest.target}', this device is '{target}';"
                " package it for that, or correct 'target' in the configuration"
            )
        if signed_sha256 is not None and bundle.sha256 != signed_sha256:
            raise BadInputError(f"{path}: is not the file that was signed; it was exchanged or is damaged")
        if signed_sha256 is None and not allow_unsigned:
            raise BadInputError(
                f"{path}: has no proof of origin; publish it and name a slot, or, for development alone, set"
                " 'allow_unsigned: true'"
            )
        self.ref = BundleRef(
            name=bundle.manifest.name,
            version=bundle.manifest.version,
            sha256=bundle.sha256,
            target=bundle.manifest.target,
            signed=signed_sha256 is not None,
        )
        labels = self.manifest.decision.thresholds
        self._moved = {k: v for k, v in policy.thresholds.items() if k in labels} if policy else {}
        site_thresholds(self.manifest, self._moved)
        self.policy = policy.name if policy and self._moved else None
        self._predictor = Predictor(bundle, threads, interpreter, cache)
        self.engine = self._predictor.engine.name
        self.not_accelerated = self._predictor.not_accelerated
        self.golden_difference = replay(
            self._predictor, Golden.from_npz(bundle.member("golden.npz"), f"{path}: golden.npz")
        )

    def look(self, frame: Frame) -> tuple[Prediction, Outcome]:
        """What the model says of a frame, and what may be said of that.

        Raises:
            BadInputError: the image cannot be brought to the model's size.
            EngineError: the interpreter failed.
        """
        prediction = self._predictor.predict(frame)
        return prediction, decide(prediction, self.manifest, self._predictor.ood, self._moved)


class Refs(Sequence[BundleRef]):
    """What is in use, as it is at each look: updates exchange models. ``former`` are named, too."""

    def __init__(self, models: Sequence[Model], former: Sequence[BundleRef] = ()) -> None:
        self._models, self._former = models, former

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> BundleRef: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[BundleRef]: ...
    def __getitem__(self, index: int | slice) -> BundleRef | Sequence[BundleRef]:
        return self._all()[index]

    def _all(self) -> list[BundleRef]:
        used = [model.ref for model in self._models]
        return used + [ref for ref in dict.fromkeys(self._former) if ref not in used]


def load_models(config: AgentConfig) -> list[Model]:
    """The configured bundles, ready.

    Raises:
        BadInputError: one cannot be used, or two are the same.
        ScanwrightError: the interpreter does not run one as it should.
    """
    models = [
        load_version(config, bundle.slot, _used(config, bundle.slot))
        if isinstance(bundle, SlotConfig)
        else _load(config, bundle, None)
        for bundle in config.bundles
    ]
    names = [model.ref.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise BadInputError(f"bundles: two are called '{name}'; keep the one to use")
    check_policy(models, config.policy)
    return models


def load_version(config: AgentConfig, slot: str, version: str) -> Model:
    """One of the versions in a slot, ready.

    Raises:
        BadInputError: it cannot be used.
        ScanwrightError: the interpreter does not run it as it should.
    """
    opened = Slot(config.state / SLOTS, slot)
    model = _load(config, opened.path(version) / BUNDLE, opened.release(version).sha256)
    if model.ref.name != slot:
        raise BadInputError(f"slot '{slot}': holds a bundle called '{model.ref.name}'")
    return model


def _used(config: AgentConfig, slot: str) -> str:
    used = Slot(config.state / SLOTS, slot).state.used
    if used is None:
        raise BadInputError(f"slot '{slot}': is empty; the agent fills it from the repository when it starts")
    return used


def _load(config: AgentConfig, path: Path, signed_sha256: str | None) -> Model:
    return Model(
        path,
        allow_unsigned=config.allow_unsigned,
        target=config.target,
        threads=config.threads,
        interpreter=config.interpreter,
        policy=config.policy,
        cache=config.state / "engines",
        signed_sha256=signed_sha256,
    )


def check_policy(models: Sequence[Model], policy: ThresholdPolicy | None) -> None:
    """Whether a site policy can be used with the bundles.

    Raises:
        BadInputError: a label has no threshold in any of them, or a value is outside what one allows.
    """
    for label, value in policy.thresholds.items() if policy else ():
        having = [model for model in models if label in model.manifest.decision.thresholds]
        if not having:
            raise BadInputError(f"thresholds.{label}: no bundle has a threshold for it")
        for model in having:
            site_thresholds(model.manifest, {label: value})


def covering(models: Sequence[Model], header: Header) -> list[Model]:
    """The models whose intended use covers an image."""
    return [model for model in models if covers(model.manifest.intended_use, header)]


def covers(use: IntendedUse, header: Header) -> bool:
    """Whether an image is within an intended use; what the use or the header leaves open does not count."""
    pairs = [
        (use.modality, header.modality),
        (use.body_part, header.body_part),
        (use.view, header.view),
    ]
    for allowed, found in pairs:
        if allowed and found and found.upper() not in {term.upper() for term in allowed}:
            return False
    age = header.age_years
    if age is None:
        return True
    low = use.min_age_years if use.min_age_years is not None else age
    high = use.max_age_years if use.max_age_years is not None else age
    return low <= age <= high
