"""Fixed dimensional encodings of token sets (MUVERA) beside late interaction and older ways to search."""
