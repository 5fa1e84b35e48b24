"""ids -> vectors: one multiplexed table serves every feature."""

from jaxembed.tables.codes import by_table, codes
from jaxembed.tables.lookup import init_tables, lookup, rows_of
from jaxembed.tables.plans import Feature, Plan, plan
from jaxembed.tables.rounding import stochastic_round
from jaxembed.tables.sharded import sharded_rows
from jaxembed.tables.statistics import bytes_of, collision_stats, reader_angles, reader_overlap
from jaxembed.tables.updates import distinct, row_update, rowwise_adagrad, touched

__all__ = [
    "Feature",
    "Plan",
    "by_table",
    "bytes_of",
    "codes",
    "collision_stats",
    "distinct",
    "init_tables",
    "lookup",
    "plan",
    "reader_angles",
    "reader_overlap",
    "row_update",
    "rows_of",
    "rowwise_adagrad",
    "sharded_rows",
    "stochastic_round",
    "touched",
]
