"""Codes of numbers."""
