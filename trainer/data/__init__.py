"""Datasets and phantoms."""
