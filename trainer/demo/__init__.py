"""The whole path on generated images, to be watched."""
