"""Models that were trained elsewhere, brought into the form of a RUN. Imports no TensorFlow."""
