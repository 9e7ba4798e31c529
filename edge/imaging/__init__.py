"""Pixels: frames, preprocessing, quality gates."""
