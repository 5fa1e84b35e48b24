"""ids -> vectors: one multiplexed table serves every feature."""

from jaxembed.tables.codes import by_table, codes
from jaxembed.tables.evolution import evolve
from jaxembed.tables.factorized import full_table, hash_table, plan_method, quotient_remainder, robe
from jaxembed.tables.lookup import init_tables, lookup, rows_of
from jaxembed.tables.masks import (
    fields_of_rows,
    long_tail_slope,
    prefix_mask,
    row_margins,
    row_mask,
    sample_widths,
    surrogate_step,
    threshold_penalty,
)
from jaxembed.tables.methods import Method, per_feature, storage_bytes, touched_rows, training_bytes
from jaxembed.tables.opt_embed import kept_rows, masked_table, supernet
from jaxembed.tables.plans import Feature, Plan, plan
from jaxembed.tables.ragged_rows import compact_rows, kept_numbers, ragged_lookup
from jaxembed.tables.rounding import stochastic_round
from jaxembed.tables.sharded import sharded_rows
from jaxembed.tables.statistics import bytes_of, collision_stats, reader_angles, reader_overlap
from jaxembed.tables.updates import distinct, row_update, rowwise_adagrad, touched

__all__ = [
    "evolve",
    "kept_rows",
    "masked_table",
    "supernet",
    "compact_rows",
    "kept_numbers",
    "ragged_lookup",
    "fields_of_rows",
    "long_tail_slope",
    "prefix_mask",
    "row_margins",
    "row_mask",
    "sample_widths",
    "surrogate_step",
    "threshold_penalty",
    "Feature",
    "Method",
    "Plan",
    "by_table",
    "bytes_of",
    "codes",
    "collision_stats",
    "distinct",
    "full_table",
    "hash_table",
    "init_tables",
    "lookup",
    "per_feature",
    "plan",
    "plan_method",
    "quotient_remainder",
    "reader_angles",
    "reader_overlap",
    "robe",
    "row_update",
    "rows_of",
    "rowwise_adagrad",
    "sharded_rows",
    "stochastic_round",
    "storage_bytes",
    "touched",
    "touched_rows",
    "training_bytes",
]
