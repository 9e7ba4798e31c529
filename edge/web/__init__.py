"""The look that screen, monitor and phone share."""
