"""ids -> vectors: one multiplexed table serves every feature."""

from jaxembed.tables.codes import Feature, Plan, codes, plan
from jaxembed.tables.lookup import init_tables, lookup, rows_of

__all__ = ["Feature", "Plan", "codes", "init_tables", "lookup", "plan", "rows_of"]
