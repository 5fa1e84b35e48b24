"""Vectors of sentences from vectors of words."""
