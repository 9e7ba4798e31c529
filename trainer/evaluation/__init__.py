"""What a model is worth, measured through the device's path."""
