"""Faults made on purpose, and what became of the recording: see docs/testing.md, "The fault campaign"."""
