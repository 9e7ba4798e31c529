"""Connection, topics and payloads."""
