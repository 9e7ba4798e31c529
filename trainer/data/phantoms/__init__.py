"""Generated images: chest radiographs and breast ultrasound, physically meant, of nobody."""

from trainer.data.phantoms.generate import LABELS, Kind, Phantom, Phantoms, generate, phantom

__all__ = ["LABELS", "Kind", "Phantom", "Phantoms", "generate", "phantom"]
