"""The simulated fleet, for tests."""

from edge.monitor.simulated import BUNDLE, Simulated, png

__all__ = ["BUNDLE", "Simulated", "png"]
