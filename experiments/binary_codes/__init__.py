"""Small binary codes: several bits per coordinate, old indexes for new heads, texts as bits."""
