"""The contract between trainer and cart."""
