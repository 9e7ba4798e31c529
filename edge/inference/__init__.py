"""Engines behind one interface, and decisions."""
