"""Triplets whose positives and negatives a guide model tells apart."""

import jax
import jax.numpy as jnp

from jaxembed.losses.contrastive import blocks_of, check_sides, directions
from jaxembed.losses.masks import guided_mask

PICKS = ("hard", "soft")


def guided_triplet_loss(
    queries, documents, query_guide, document_guide, *, margin=0.2, guide_margin=0.0, pick="hard"
):
    """Guided triplet loss: asks that a guide's positives are nearer to a query than the guide's negatives.

    For each query the candidates are all documents and the other queries. The guide's positives are its own
    document and what :func:`guided_mask` hides; the negatives are the rest. With the distance ``1 - cos``,

    ``loss[i] = max(0, margin + (1 - p[i]) - (1 - n[i]))``,

    where "hard" takes the least similar positive p and the most similar negative n as the encoder sees them,
    and "soft" the mean cosine of either set. Added to :func:`info_nce` it is a term of GISTEmbed's code.

    >>> guide = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> queries, documents = jnp.eye(2), jnp.array([[0.6, 0.8], [0.0, 1.0]])
    >>> print(guided_triplet_loss(queries, documents, guide, guide, margin=0.5).round(3))
    [0.  0.3]

    Args:
        queries: [B, D], of the encoder that is trained; normalised inside.
        documents: [N, D], finite, N >= B; row i answers query i, hard negatives come after the first B.
        query_guide: [B, G], the queries as the guide sees them; no gradient flows to it.
        document_guide: [N, G].
        margin: number, in units of the cosine; may be traced.
        guide_margin: of the guide, as in :func:`guided_mask`.
        pick: "hard" or "soft".

    Returns:
        [B], in at least float32; 0 for a query to which the guide leaves no negative.

    Raises:
        ValueError: for an unknown ``pick``, fewer documents than queries, or sides of different rows.

    References:
        A. Solatorio (GISTEmbed), arXiv:2402.16829: an option of its code without a published weight or
        margin. That the encoder, not the guide, says which pair is the hardest is our reading.
    """
    if pick not in PICKS:
        raise ValueError(f'pick={pick!r}: pass "hard" or "soft"')
    check_sides(queries, documents)
    for name, guide, rows in (("query", query_guide, queries), ("document", document_guide, documents)):
        if len(guide) != len(rows):
            raise ValueError(
                f"{name}_guide: {len(guide)} rows for {len(rows)}; give the guide's view of each"
            )
    blocks = ("qd", "qq")
    kept = guided_mask(query_guide, document_guide, margin=guide_margin, blocks=blocks)
    scores, others = blocks_of(directions(queries), directions(documents), blocks)
    own = jnp.arange(len(scores))[:, None] == jnp.arange(scores.shape[1])
    positives, negatives = own | (others & ~kept), others & kept & ~own
    if pick == "hard":
        near = jnp.min(jnp.where(positives, scores, jnp.inf), axis=1)
        far = jnp.max(jnp.where(negatives, scores, -jnp.inf), axis=1)
    else:
        near, far = _mean(scores, positives), _mean(scores, negatives)
    asked = jnp.any(negatives, axis=1)
    return jnp.where(asked, jax.nn.relu(margin + jnp.where(asked, far, 0) - near), 0)


def _mean(scores, chosen):
    """Mean [B] of the chosen scores of each row, 0 where there is none."""
    return jnp.sum(jnp.where(chosen, scores, 0), axis=1) / jnp.maximum(jnp.sum(chosen, axis=1), 1)
