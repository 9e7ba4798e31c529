"""Why there is no result: the closed list of codes. Their texts are in the catalogues of ``edge/web``."""

from __future__ import annotations

from enum import Enum

__all__ = ["Reason"]


class Reason(str, Enum):
    """A code on a Finding without a result. Codes are only ever added."""

    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"
    BLANK = "blank"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    LOW_CONTRAST = "low_contrast"
    BLURRED = "blurred"
    NOISY = "noisy"
    UNEXPECTED_COLOUR = "unexpected_colour"
    NO_SIGNAL = "no_signal"
    FROZEN = "frozen"
    USER_INTERFACE = "user_interface"
    FOR_PROCESSING = "for_processing"
    NOT_COVERED = "not_covered"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    UNCERTAIN = "uncertain"
    ENGINE_FAILED = "engine_failed"
