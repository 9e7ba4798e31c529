"""A bundle that must not be used."""

from __future__ import annotations

from edge.errors import BadInputError

__all__ = ["BundleError", "GoldenError"]


class BundleError(BadInputError):
    """A bundle, or a part of one, is missing, damaged or not what its manifest says."""


class GoldenError(BundleError):
    """The interpreter does not give the outputs that the golden vectors expect, or they prove nothing."""
