"""A site's certificates: who may speak to its broker, and as whom."""
