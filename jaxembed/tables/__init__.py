"""ids -> vectors: one multiplexed table serves every feature."""

from jaxembed.arrays import prefix_mask
from jaxembed.tables.budgets import within
from jaxembed.tables.codebooks import dpq, mgqe
from jaxembed.tables.codes import by_table, codes
from jaxembed.tables.composed import check_params, fine_tuned, per_feature, touched_rows
from jaxembed.tables.evolution import evolve
from jaxembed.tables.exchange import exchange_overflow, exchanged_rows
from jaxembed.tables.factorized import full_table, hash_table, plan_method, quotient_remainder, robe
from jaxembed.tables.integer_updates import integer_update
from jaxembed.tables.lookup import init_tables, lookup, rows_of
from jaxembed.tables.methods import Method, storage_bytes, training_bytes
from jaxembed.tables.opt_embed import kept_rows, masked_table, search_masks, supernet
from jaxembed.tables.placement import assigned, placement
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
from jaxembed.tables.ragged_rows import compact_rows, kept_numbers, ragged_bytes, ragged_lookup
from jaxembed.tables.remapped import adapt_emb, dedup
from jaxembed.tables.rounding import stochastic_round
from jaxembed.tables.row_masks import (
    fields_of_rows,
    long_tail_slope,
    row_margins,
    row_mask,
    sample_widths,
    surrogate_step,
    threshold_penalty,
)
from jaxembed.tables.sharded import sharded_rows
from jaxembed.tables.statistics import (
    bytes_of,
    collision_stats,
    gradient_parts,
    projection_variance,
    reader_angles,
    reader_overlap,
    row_norms,
)
from jaxembed.tables.updates import distinct, row_update, rowwise_adagrad, touched
from jaxembed.tables.widths import autodim, autodim_widths, mixed_dimensions, narrow_table, narrow_tables

__all__ = [
    "Feature",
    "Method",
    "Plan",
    "adapt_emb",
    "alpt",
    "assigned",
    "autodim",
    "autodim_widths",
    "autosrh",
    "autosrh_rule",
    "by_table",
    "bytes_of",
    "check_params",
    "codes",
    "collision_stats",
    "compact_rows",
    "dedup",
    "deeplight",
    "dhe",
    "distinct",
    "dpq",
    "evolve",
    "exchange_overflow",
    "exchanged_rows",
    "fields_of_rows",
    "fine_tuned",
    "full_table",
    "gradient_parts",
    "hash_table",
    "init_tables",
    "integer_table",
    "integer_update",
    "keep_largest",
    "kept_numbers",
    "kept_rows",
    "long_tail_slope",
    "lookup",
    "masked_table",
    "mgqe",
    "mixed_dimensions",
    "narrow_table",
    "narrow_tables",
    "pep",
    "pep_left",
    "per_feature",
    "placement",
    "plan",
    "plan_method",
    "prefix_mask",
    "projection_variance",
    "pruned_update",
    "quotient_remainder",
    "ragged_bytes",
    "ragged_lookup",
    "reader_angles",
    "reader_overlap",
    "robe",
    "round_learned",
    "round_to_step",
    "row_margins",
    "row_mask",
    "row_norms",
    "row_update",
    "rows_of",
    "rowwise_adagrad",
    "sample_widths",
    "search_masks",
    "sharded_rows",
    "stochastic_round",
    "storage_bytes",
    "supernet",
    "surrogate_step",
    "tensor_train",
    "threshold_penalty",
    "touched",
    "touched_rows",
    "training_bytes",
    "within",
]
