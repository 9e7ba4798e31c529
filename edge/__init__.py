"""What runs on carts, gateways and phones."""

__version__ = "0.1.0"
