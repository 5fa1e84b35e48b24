"""Calls of the functions of words on drawn arrays: spaces, subspaces, bias, groups."""

import jax
import jax.numpy as jnp
import numpy as np
from property_drawn import ANY

from jaxembed import losses, metrics, vectors

SIDE = np.eye(8, dtype=np.float32)[:1]
NAMES = [f"w{i}" for i in range(9)]
SENSES = losses.init_senses(jax.random.key(0), 6, 2, 8)
CENTRES = losses.init_sense_centres(6, 2, 8)


def paired(function, c, **options):
    """Two views of the same rows, and the mask of the pairs that count."""
    where = c.bools(c.N)
    return function(c.x(c.N, c.D, where=where), c.x(c.N, 3, where=where), where=where, **options)


def asked(c):
    return [tuple(NAMES[: c.N][i] for i in c.ints(c.N, 4)) for _ in range(3)] if c.N else []


VECTORS = {
    "bias_subspace": lambda c: (vectors.bias_subspace(c.x(c.B, 2, c.D))[0], (1, c.D)),
    "canonical": lambda c: (paired(vectors.canonical, c)["x"]["kernel"], (c.D, 3)),
    "combine_spaces": lambda c: (vectors.combine_spaces([c.d(), c.d()], align="procrustes"), (c.N, c.D)),
    "csls": lambda c: (vectors.csls(c.q(), c.d(), k=2), (c.B, c.N)),
    "encode_numbers": lambda c: (vectors.encode_numbers(c.x(c.N), "dice", size=4), (c.N, 4)),
    "equalise": lambda c: (vectors.equalise(c.x(c.B, 2, c.D), SIDE[:, : c.D]), (c.B, 2, c.D)),
    "fit_dictionary": lambda c: (vectors.fit_dictionary(c.key, c.d(), 2, steps=3, batch_size=4), (2, c.D)),
    "hard_debias": lambda c: (
        vectors.hard_debias(c.d(), SIDE, neutral=c.bools(c.N), sets=[[0, 1]]),
        (c.N, c.D),
    ),
    "neutralise": lambda c: (vectors.neutralise(c.d(), SIDE), (c.N, c.D)),
    "polar_axes": lambda c: (vectors.polar_axes(*c.pairs()), (c.D, c.B)),
    "ppmi": lambda c: (vectors.ppmi(c.share(c.B, c.N)), (c.B, c.N)),
    "procrustes": lambda c: (paired(vectors.procrustes, c), (c.D, 3)),
    "project_out": lambda c: (vectors.project_out(c.d(), SIDE), (c.N, c.D)),
    "refined_procrustes": lambda c: (
        vectors.refined_procrustes(c.d(), c.d(), [[0, 0]], rounds=2, k=1)["kernel"],
        (c.D, c.D),
    ),
    "row_space": lambda c: (vectors.row_space(c.d(), rank=2)[0], (2, c.D)),
    "soft_debias": lambda c: (
        vectors.soft_debias(c.d(), SIDE, neutral=c.bools(c.N), steps=5).kernel,
        (c.D, c.D),
    ),
    "sparse_codes": lambda c: (vectors.sparse_codes(c.d(), np.eye(8, dtype=np.float32)), (c.N, 8)),
    "spectral_embedding": lambda c: (vectors.spectral_embedding(c.d(), 2)[0], (c.N, 2)),
}
LOSSES = {
    "context_vectors": lambda c: (
        losses.context_vectors(SENSES, c.ints(6, c.B, c.T), c.bools(c.B, c.T)),
        (c.B, 8),
    ),
    "gumbel_softmax": lambda c: (losses.gumbel_softmax(c.key, c.x(c.B, 3)), (c.B, 3)),
    "induce_sense": lambda c: (losses.induce_sense(SENSES, c.ints(6, c.B), c.ints(6, c.B, c.T)), (c.B,)),
    "nearest_sense": lambda c: (
        losses.nearest_sense(SENSES, CENTRES, c.ints(6, c.B), c.ints(6, c.B, c.T))[0],
        (c.B, 2),
    ),
    "prune_senses": lambda c: (losses.prune_senses(c.share(c.N, 3)), (c.N, 3)),
    "sense_logits": lambda c: (losses.sense_logits(SENSES, c.ints(6, c.B), c.ints(6, c.B, c.T)), (c.B, 2)),
    "sense_loss": lambda c: (
        losses.sense_loss(SENSES, c.ints(6, c.B), c.ints(6, c.B, c.T), mask=c.bools(c.B, c.T), key=c.key),
        (c.B,),
    ),
    "sense_priors": lambda c: (
        losses.sense_priors(SENSES, [{"words": c.ints(6, c.B), "contexts": c.ints(6, c.B, c.T)}]),
        (6, 2),
    ),
}


def stretch(c, function, **options):
    """A function of the windows of a stretch: three places, a window of 1, N noise words."""
    pairs = losses.window_pairs(jnp.zeros(5, jnp.int32), jnp.ones(3, jnp.int32), 1)
    rows = c.x(3, c.D), c.x(5, c.D), c.x(c.N, c.D)
    return function(*rows, pairs, c.share(3, c.N), **options)


TREE = losses.huffman([5, 2, 1])
LOSSES |= {
    "glove_loss": lambda c: (
        losses.glove_loss(
            dict.fromkeys(("input", "output"), {"embedding": c.x(6, c.D), "bias": c.x(6, 1)}),
            *(c.ints(6, c.B) for _ in range(2)),
            c.share(c.B) + 1,
        ),
        (c.B,),
    ),
    "hierarchical_softmax": lambda c: (
        losses.hierarchical_softmax(c.q(), c.x(2, c.D), *(x[c.ints(3, c.B)] for x in TREE)),
        (c.B,),
    ),
    "negative_sampling": lambda c: (losses.negative_sampling(c.x(c.B, 4), c.bools(c.B, 4)), (c.B,)),
    "noise_weights": lambda c: (
        losses.noise_weights(c.ints(6, 5), c.ints(6, 4), c.bools(3, 5), 5),
        (3, 4),
    ),
    "tree_window_gradients": lambda c: (
        losses.tree_window_gradients(
            c.x(3, c.D), c.x(5, 2, c.D), c.bools(3, 5), c.ints(2, 5, 2), c.bools(5, 2)
        )[0],
        (3, c.D),
    ),
    "window_gradients": lambda c: (stretch(c, losses.window_gradients)[0], (3, c.D)),
    "window_loss": lambda c: (stretch(c, losses.window_loss), (3,)),
    "window_pairs": lambda c: (losses.window_pairs(c.ints(2, 5), c.ints(2, 3), 1), (3, 5)),
    "word_hinge": lambda c: (losses.word_hinge(c.x(c.B, 4), c.bools(c.B, 4)), (c.B,)),
    "word_scores": lambda c: (
        losses.word_scores(
            dict.fromkeys(("input", "output"), {"embedding": c.x(6, c.D)}),
            c.ints(6, c.B, 3),
            c.ints(6, c.B, 2),
            kind="cbow",
        ),
        (c.B, 2),
    ),
}
METRICS = {
    "adjusted_rand": lambda c: (metrics.adjusted_rand(c.ints(3, c.N), c.ints(3, c.N)), ()),
    "analogy_pairs": lambda c: (metrics.analogy_pairs(c.d(), SIDE[0], delta=2), ANY),
    "choice_accuracy": lambda c: (
        metrics.choice_accuracy(
            c.d(), NAMES[: c.N], [q[0] for q in asked(c)], [q[1:] for q in asked(c)], [0] * len(asked(c))
        ),
        ANY,
    ),
    "direct_bias": lambda c: (metrics.direct_bias(c.d(), SIDE), ()),
    "gain_ratio": lambda c: (metrics.gain_ratio(c.x(c.N), 0.0, c.share(c.N)), (c.N,)),
    "indirect_bias": lambda c: (metrics.indirect_bias(*c.pairs(), SIDE), (c.B,)),
    "intrusion": lambda c: (metrics.intrusion(c.d(), c.x(c.N, 3), k=2), (c.D,)),
    "pair_bias": lambda c: (metrics.pair_bias(c.d(), c.x(c.B, 2, c.D)), ()),
    "pearson": lambda c: (metrics.pearson(c.share(c.N), c.share(c.N)), ()),
    "purity": lambda c: (metrics.purity(c.ints(3, c.N), c.ints(3, c.N)), ()),
    "rsa": lambda c: (metrics.rsa(c.d(), c.x(c.N, 3)), ()),
    "sense_similarity": lambda c: (metrics.sense_similarity(c.x(c.B, 2, c.D), c.x(c.B, 3, c.D)), (c.B,)),
    "weat": lambda c: (metrics.weat(c.q(), c.d(), attributes=c.q(), others=c.d()), ANY),
    "word_analogies": lambda c: (metrics.word_analogies(c.d(), NAMES[: c.N], asked(c)), ANY),
    "word_similarity": lambda c: (
        metrics.word_similarity(c.d(), NAMES[: c.N], [q[:2] for q in asked(c)], [1, 2, 3][: 3 * bool(c.N)]),
        ANY,
    ),
}
