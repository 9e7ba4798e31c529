"""From a run to a bundle; imports no TensorFlow."""
