"""Judges of an answer from outside the model."""
