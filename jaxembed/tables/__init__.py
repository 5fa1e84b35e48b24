"""ids -> vectors: one multiplexed table serves every feature."""

from jaxembed.tables.budgets import within
from jaxembed.tables.codebooks import dpq, mgqe
from jaxembed.tables.codes import by_table, codes
from jaxembed.tables.composed import check_params, fine_tuned, per_feature, touched_rows
from jaxembed.tables.factorized import full_table, hash_table, plan_method, quotient_remainder, robe
from jaxembed.tables.integer_updates import integer_update
from jaxembed.tables.lookup import init_tables, lookup, rows_of
from jaxembed.tables.methods import Method, storage_bytes, training_bytes
from jaxembed.tables.plans import Feature, Plan, plan
from jaxembed.tables.products import dhe, tensor_train
from jaxembed.tables.pruned import (
    autosrh,
    autosrh_rule,
    deeplight,
    keep_largest,
    pep,
    pep_left,
    pruned_update,
)
from jaxembed.tables.quantized import alpt, integer_table, round_learned, round_to_step
from jaxembed.tables.remapped import adapt_emb, dedup
from jaxembed.tables.rounding import stochastic_round
from jaxembed.tables.sharded import sharded_rows
from jaxembed.tables.statistics import bytes_of, collision_stats, reader_angles, reader_overlap
from jaxembed.tables.updates import distinct, row_update, rowwise_adagrad, touched
from jaxembed.tables.widths import autodim, autodim_widths, mixed_dimensions, narrow_table, narrow_tables

__all__ = [
    "Feature",
    "Method",
    "Plan",
    "adapt_emb",
    "alpt",
    "autodim",
    "autodim_widths",
    "autosrh",
    "autosrh_rule",
    "by_table",
    "bytes_of",
    "check_params",
    "codes",
    "collision_stats",
    "dedup",
    "deeplight",
    "dhe",
    "distinct",
    "dpq",
    "fine_tuned",
    "full_table",
    "hash_table",
    "init_tables",
    "integer_table",
    "integer_update",
    "keep_largest",
    "lookup",
    "mgqe",
    "mixed_dimensions",
    "narrow_table",
    "narrow_tables",
    "pep",
    "pep_left",
    "per_feature",
    "plan",
    "plan_method",
    "pruned_update",
    "quotient_remainder",
    "reader_angles",
    "reader_overlap",
    "robe",
    "round_learned",
    "round_to_step",
    "row_update",
    "rows_of",
    "rowwise_adagrad",
    "sharded_rows",
    "stochastic_round",
    "storage_bytes",
    "tensor_train",
    "touched",
    "touched_rows",
    "training_bytes",
    "within",
]
