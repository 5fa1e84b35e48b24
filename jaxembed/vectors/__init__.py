"""vectors -> vectors or compact codes: functions on arrays that know no model, trainer, mesh or config."""

from jaxembed.vectors.aspects import combine_aspects, init_retrofit, retrofit
from jaxembed.vectors.binary import (
    binary_bottleneck,
    hamming,
    pack_bits,
    random_hyperplanes,
    sign_codes,
    straight_through_sign,
    unpack_bits,
)
from jaxembed.vectors.chamfer import ball_carve, chamfer, chamfer_flat, implicit_fde_score
from jaxembed.vectors.concepts import (
    esa_vectors,
    explain,
    explicit_similarity,
    sparse_similarity,
    top_concepts,
)
from jaxembed.vectors.fde import (
    centre_fde,
    encode_documents,
    encode_queries,
    encode_set,
    encoding_length,
    estimate_chamfer,
    init_fde,
    truncate_fde,
)
from jaxembed.vectors.learned_product import quantise_product, soft_product
from jaxembed.vectors.levels import (
    bits_to_levels,
    byte_products,
    code_levels,
    level_scores,
    level_tables,
    levels_to_bits,
    plane_scores,
    scalar_scores,
)
from jaxembed.vectors.normalise import entry_means, fit_centre, fit_removal, fit_whiten, standardise
from jaxembed.vectors.product import (
    decode_product,
    encode_product,
    fit_product,
    product_errors,
    product_scores,
    product_tables,
)
from jaxembed.vectors.recurrent import init_recurrent, recurrent_codes
from jaxembed.vectors.scalar import decode_scalar, encode_scalar, fit_scalar, scalar_distance_bound

__all__ = [
    "ball_carve",
    "binary_bottleneck",
    "bits_to_levels",
    "byte_products",
    "centre_fde",
    "chamfer",
    "chamfer_flat",
    "code_levels",
    "combine_aspects",
    "decode_product",
    "decode_scalar",
    "encode_documents",
    "encode_product",
    "encode_queries",
    "encode_scalar",
    "encode_set",
    "encoding_length",
    "entry_means",
    "esa_vectors",
    "estimate_chamfer",
    "explain",
    "explicit_similarity",
    "fit_centre",
    "fit_product",
    "fit_removal",
    "fit_scalar",
    "fit_whiten",
    "hamming",
    "implicit_fde_score",
    "init_fde",
    "init_recurrent",
    "init_retrofit",
    "level_scores",
    "level_tables",
    "levels_to_bits",
    "pack_bits",
    "plane_scores",
    "product_errors",
    "product_scores",
    "product_tables",
    "quantise_product",
    "random_hyperplanes",
    "recurrent_codes",
    "retrofit",
    "scalar_distance_bound",
    "scalar_scores",
    "sign_codes",
    "soft_product",
    "sparse_similarity",
    "standardise",
    "straight_through_sign",
    "top_concepts",
    "truncate_fde",
    "unpack_bits",
]
