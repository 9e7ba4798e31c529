"""Runs in a process of its own, with TensorFlow and either Keras: see :mod:`trainer.conversion.__main__`."""
