"""Moved to ``experiments.shared.inputs``, which this name stands for until its last user has moved."""

import sys

from experiments.shared import inputs

sys.modules[__name__] = inputs
