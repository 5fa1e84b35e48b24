"""Errors of one line that name the remedy."""

import pytest


def refused(match, call, error=ValueError):
    with pytest.raises(error, match=match) as caught:
        call()
    assert "\n" not in str(caught.value) and "; " in str(caught.value)
