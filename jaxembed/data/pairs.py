"""Who is positive with whom: pairs made from single texts."""

import numpy as np


def inverse_cloze(words, *, seed, shortest=5, longest=13):
    """Cuts a span out of a text, so that the span can be asked to find the rest.

    >>> span, rest = inverse_cloze(list("abcdefgh"), seed=0, shortest=2, longest=3)
    >>> print("".join(span), "".join(rest))
    def abcgh

    Args:
        words: list of n str.
        seed: int or tuple of ints; the same seed cuts the same span.
        shortest: least length of the span.
        longest: greatest length of the span.

    Returns:
        (span, rest), two lists whose words together are ``words``; (None, words) for a text that is not
        longer than ``longest``.

    References:
        K. Lee et al. (the inverse cloze task), arXiv:1906.00300.
    """
    if not 1 <= shortest <= longest:
        raise ValueError(f"shortest={shortest}, longest={longest}: need 1 <= shortest <= longest")
    if len(words) <= longest:
        return None, words
    rng = np.random.default_rng(seed)
    size = int(rng.integers(shortest, longest + 1))
    start = int(rng.integers(0, len(words) - size + 1))
    return words[start : start + size], words[:start] + words[start + size :]
