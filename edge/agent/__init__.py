"""The service on the cart."""
