"""TensorFlow, Keras 2 and the optimization toolkit: the one place they are imported from."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

__all__ = ["keras", "quiet", "tf", "tfmot"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what native code writes to the error stream; if the block fails, all of it is shown.

    TensorFlow's C++ parts log before any log level can reach them, and the converter logs past its own.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


# The optimization toolkit knows Keras 2 only, which TensorFlow takes from tf-keras when asked to by this.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

with quiet():
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    if "TF_CONFIG" not in os.environ:  # several machines must be joined before any device is looked for
        tf.config.list_logical_devices()  # looks for accelerators, which logs too

tf.get_logger().setLevel("ERROR")
