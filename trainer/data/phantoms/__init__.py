"""Generated images of every kind that a recipe is for, physically meant, of nobody."""

from trainer.data.phantoms.generate import LABELS, Kind, Phantom, Phantoms, generate, phantom

__all__ = ["LABELS", "Kind", "Phantom", "Phantoms", "generate", "phantom"]
