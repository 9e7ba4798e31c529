"""What goes wrong with an image: it cannot be read, or may not be."""

from __future__ import annotations

from edge.bundle.reasons import Reason
from edge.errors import BadInputError

__all__ = ["UnreadableImageError"]


class UnreadableImageError(BadInputError):
    """An image cannot be used; the message is one line naming the file and what is wrong.

    ``reason`` is ``Reason.UNREADABLE`` or ``Reason.TOO_LARGE``.
    """

    def __init__(self, message: str, reason: Reason = Reason.UNREADABLE) -> None:
        super().__init__(message)
        self.reason = reason
