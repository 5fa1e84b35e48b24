"""Nested vectors: one encoder whose prefixes and layers are encoders too. A family of two stories."""
