"""SAFREE: finds the words of a prompt that name a concept, and takes the concept out of their states."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxembed.arrays import accumulator, check_shape, exact_product, masked_mean, on_device, unit
from jaxembed.diffusion.process import spread
from jaxembed.diffusion.prompts import rows_of
from jaxembed.vectors import project_out, row_space
from jaxembed.vectors.subspace import refuse_whole

ORDERS = ("concept_last", "input_last")
RULES = ("paper", "calibrated")


class Guarded(NamedTuple):
    """What :func:`safree` makes of a prompt.

    Attributes:
        states: [T, D], filtered: those of trigger words are projected.
        triggers: bool [T].
        steps: int32, the last sampling step, from 0, that reads the filtered states.
    """

    states: jax.Array
    triggers: jax.Array
    steps: jax.Array


def leave_one_out(encode, ids, mask, mask_id):
    """Leave-one-out vectors: those of a prompt with one token hidden, for every token.

    >>> encode = lambda batch: batch["ids"].astype(jnp.float32)  # a stand-in for a text encoder
    >>> print(leave_one_out(encode, jnp.array([5, 6]), jnp.array([True, True]), 0))
    [[0. 6.]
     [5. 0.]]

    Args:
        encode: ``{"ids": int [T, T], "mask": bool [T, T]} -> [T, D]``, one vector for each prompt.
        ids: int [T], of one prompt. ``jax.vmap`` takes many.
        mask: bool [T], True for real tokens.
        mask_id: id that is put in the place of a token. The encoder must have seen it within texts: the mask
            token, and not padding.

    Returns:
        [T, D]. Row i is the prompt without token i; rows of padding are those of the whole prompt.

    Raises:
        ValueError: for shapes that do not fit.

    References:
        J. Yoon et al. (SAFREE), arXiv:2410.12761. Its code puts id 0 for a token, which is "!" in CLIP.
    """
    ids = on_device("ids", ids)
    check_shape("ids", ids, (None,))
    check_shape("mask", mask, ids.shape)
    mask = jnp.asarray(mask, bool)
    hidden = jnp.eye(len(ids), dtype=bool) & mask[:, None]
    rows = jnp.where(hidden, jnp.asarray(mask_id, ids.dtype), ids)
    return encode({"ids": rows, "mask": jnp.broadcast_to(mask, hidden.shape)})


def trigger_tokens(removed, concept, where, *, alpha=0.01):
    """Trigger words: those whose removal takes a prompt farther from a concept than that of the others does.

    With ``d[i] = |removed[i] - its projection onto the concept|``, token i is a trigger where ``d[i] >= (1 +
    alpha) mean over j != i of d[j]``. The only word of a prompt is one.

    >>> removed = jnp.array([[1.0, 0.2], [0.0, 1.0], [1.0, 0.2]])  # without the middle word little is left
    >>> print(trigger_tokens(removed, jnp.array([[1.0, 0.0]]), jnp.ones(3, bool)))
    [False  True False]

    Args:
        removed: [T, D] of :func:`leave_one_out`.
        concept: [r, D], the basis that :func:`~jaxembed.vectors.row_space` gives for phrases of the concept.
        where: bool [T], the words. Others are not triggers and count in no mean.
        alpha: how much farther; -1 flags every word. May be traced.

    Returns:
        bool [T].

    Raises:
        ValueError: for shapes that do not fit, a ``where`` without any word, or a concept that spans the
            whole space.

    References:
        J. Yoon et al. (SAFREE), arXiv:2410.12761. Ties are triggers as in its code; the paper has ``>``.
    """
    rows = rows_of("removed", removed, where)
    refuse_whole("concept", concept)
    where = jnp.asarray(where, bool)
    distances = jnp.sqrt(jnp.sum(project_out(rows, concept) ** 2, axis=-1))
    count = jnp.sum(where)
    others = (jnp.sum(jnp.where(where, distances, 0)) - distances) / jnp.maximum(count - 1, 1)
    return where & ((distances >= (1 + alpha) * others) | (count == 1))


def filter_states(states, concept, inputs=None, *, triggers=None, order="concept_last"):
    """Filtering of token states: takes a concept out, and keeps to what the prompt itself spans.

    With C the projector onto the concept and I that onto the inputs, a row x becomes ``(1 - C) I x`` under
    the order "concept_last", which is free of the concept. Under "input_last" it becomes ``I (1 - C) x``,
    which stays in the span of the inputs.

    >>> states, concept = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[0.0, 1.0, 0.0]])
    >>> print(filter_states(states, concept, jnp.eye(3)[:2]))
    [[1. 0. 0.]]

    Args:
        states: [..., T, D].
        concept: [r, D], orthonormal rows or zeros.
        inputs: optional [s, D], the basis of the leave-one-out vectors; None for the whole space.
        triggers: optional bool [..., T], the rows that change. Others come back bit for bit.
        order: "concept_last", that of the code, or "input_last", that of the paper.

    Returns:
        [..., T, D] in at least float32.

    Raises:
        ValueError: for an unknown order, shapes that do not fit, or a concept that spans the whole space.

    References:
        J. Yoon et al. (SAFREE), arXiv:2410.12761.
    """
    if order not in ORDERS:
        raise ValueError(f"order={order!r}; choose one of {', '.join(ORDERS)}")
    refuse_whole("concept", concept)
    states = on_device("states", states)
    found = states = states.astype(accumulator(states))
    if inputs is not None:
        check_shape("inputs", inputs, (None, states.shape[-1]))
    for part in ("inputs", "concept") if order == "concept_last" else ("concept", "inputs"):
        if part == "concept":
            found = project_out(found, concept)
        elif inputs is not None:
            basis = jnp.asarray(inputs, found.dtype)
            found = exact_product(exact_product(found, basis.T), basis)
    if triggers is None:
        return found
    check_shape("triggers", triggers, states.shape[:-1])
    return jnp.where(jnp.asarray(triggers, bool)[..., None], found, states)


def filter_steps(states, filtered, mask, *, rule="calibrated", most=10, slope=2.5, centre=5.333):
    """Self-validating filter: how many sampling steps read filtered states, by how much these differ.

    With ``z = 1 - mean over tokens of cos(states, filtered)``: "paper" gives ``round(most sigmoid(z))`` and
    "calibrated" ``round(most sigmoid(2 slope (10 z - centre)))``.

    >>> states, turned = jnp.array([[1.0, 0.0]]), jnp.array([[0.5, 0.75**0.5]])
    >>> mask = jnp.array([True])
    >>> print(filter_steps(states, turned, mask), filter_steps(states, turned, mask, rule="paper"))
    2 6

    Args:
        states: [T, D], as they were.
        filtered: [T, D], all rows projected: :func:`filter_states` without ``triggers``.
        mask: bool [T], the tokens that count, special ones among them.
        rule: "paper", which gives 5 to 7 of 10 for any z in 0..1, or "calibrated", that of the code.
        most: the largest number.
        slope: of "calibrated".
        centre: ten times the z at which it gives half of ``most``. The code has slope 2.5 and centre 5.333
            for one concept, 3.5 and 5.5 for another, and CLIP's states: choose them for another encoder.

    Returns:
        int32 scalar t: steps 0 to t, and t too, read the filtered states.

    Raises:
        ValueError: for an unknown rule, or shapes that do not fit.

    References:
        J. Yoon et al. (SAFREE), arXiv:2410.12761.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}; choose one of {', '.join(RULES)}")
    states, filtered = on_device("states", states), on_device("filtered", filtered)
    check_shape("filtered", filtered, states.shape)
    check_shape("mask", mask, states.shape[:1])
    wide = accumulator(states, filtered)
    cosines = jnp.sum(unit(states.astype(wide)) * unit(filtered.astype(wide)), axis=-1)
    z = 1 - masked_mean(cosines[:, None], jnp.asarray(mask, bool))[..., 0]
    inside = z if rule == "paper" else 2 * slope * (10 * z - centre)
    return jnp.round(most * jax.nn.sigmoid(inside)).astype(jnp.int32)


def safree(
    states, removed, concepts, words, *, mask=None, alpha=0.01, order="concept_last", tolerance=1e-4, **steps
):
    """SAFREE: a prompt whose trigger words lost a concept, and for how many steps it is to be read.

    :func:`trigger_tokens`, :func:`filter_states` and :func:`filter_steps` in turn. Nothing is trained.
    :func:`filtered_first` hands the result to a sampler.

    >>> states = jnp.array([[1.0, 0.2, 0.0], [0.1, 1.0, 0.0], [1.0, 0.2, 0.1]])
    >>> removed = jnp.array([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [1.0, 0.2, 0.0]])
    >>> found = safree(states, removed, jnp.array([[2.0, 0.0, 0.0]]), jnp.ones(3, bool))
    >>> print(found.triggers, found.states[1].round(3) + 0)
    [False  True False] [0. 1. 0.]

    Args:
        states: [T, D], token states of the prompt.
        removed: [T, D] of :func:`leave_one_out`, in the same space.
        concepts: [K, D], pooled vectors of phrases that name the concept.
        words: bool [T], the tokens of words. Others never change, although they may still hold the concept.
        mask: optional bool [T], the real tokens; default ``words``.
        alpha: as in :func:`trigger_tokens`.
        order: as in :func:`filter_states`.
        tolerance: directions of phrases and inputs weaker than this share of the strongest are left out.
        **steps: of :func:`filter_steps`.

    Returns:
        :class:`Guarded`.

    Raises:
        ValueError: as those functions, and for phrases that span the whole space.

    References:
        J. Yoon et al. (SAFREE), arXiv:2410.12761.
    """
    concept, _ = row_space(concepts, tolerance=tolerance)
    refuse_whole("concepts", concept)
    inputs, _ = row_space(rows_of("removed", removed, words), tolerance=tolerance)
    triggers = trigger_tokens(removed, concept, words, alpha=alpha)
    filtered = filter_states(states, concept, inputs, order=order)
    count = filter_steps(states, filtered, words if mask is None else mask, **steps)
    wide = jnp.asarray(states).astype(filtered.dtype)
    return Guarded(jnp.where(triggers[:, None], filtered, wide), triggers, count)


def filtered_first(filtered, steps):
    """Schedule of conditions: the first sampling steps read a filtered condition, the others their own.

    >>> at_step = filtered_first(jnp.zeros((1, 2)), 3)
    >>> print(at_step(3, jnp.ones((1, 2))), at_step(4, jnp.ones((1, 2))))
    [[0. 0.]] [[1. 1.]]

    Args:
        filtered: tree of arrays [B, ...] like the condition.
        steps: int, or int [B]; steps 0 to ``steps`` read ``filtered``, and -1 is never. May be traced.

    Returns:
        ``at_step(number, condition) -> condition`` for :func:`~jaxembed.diffusion.sample`.

    Raises:
        ValueError: where the condition is another tree or has other shapes.

    References:
        J. Yoon et al. (SAFREE), arXiv:2410.12761.
    """

    def at_step(number, condition):
        if jax.tree.structure(condition) != jax.tree.structure(filtered):
            raise ValueError("filtered: another tree than the condition; filter the condition itself")

        def chosen(new, old):
            check_shape("filtered", new, jnp.shape(old))
            early = jnp.broadcast_to(jnp.asarray(number) <= jnp.asarray(steps), jnp.shape(old)[:1])
            return jnp.where(spread(early, old), jnp.asarray(new, jnp.result_type(old)), old)

        return jax.tree.map(chosen, filtered, condition)

    return at_step


def spectral_damp(
    filtered, reference, *, radius=1, scale=0.9, mode="multiply", compare="real", symmetric=False
):
    """Latent re-attention: damps low frequencies of features that exceed those of a reference.

    Of the two-dimensional Fourier transforms F and R, the frequencies -radius to radius - 1 of both axes are
    looked at. Where F is above R there, F becomes ``scale F`` ("multiply"), or ``scale`` itself ("constant").

    >>> flat, lower = jnp.ones((1, 4, 4, 1)), jnp.full((1, 4, 4, 1), 0.5)
    >>> print(spectral_damp(flat, lower, scale=0.5)[0, 0, 0], spectral_damp(lower, flat)[0, 0, 0])
    [0.5] [0.5]

    Args:
        filtered: [..., H, W, C], features of a decoder's skip in the branch of the filtered prompt.
        reference: of the same shape, those of the prompt as it was.
        radius: of the block of frequencies, at most half of H and W.
        scale: the paper has 0.9 for 1,280 channels and 0.2 for 640.
        mode: "multiply", that of the paper, or "constant", that of the code, which also sets ties.
        compare: "real", by the real parts as in the code, or "magnitude". The paper writes ``F > R``.
        symmetric: True takes -radius to radius, so that the result is real by itself. Otherwise its imaginary
            part is dropped.

    Returns:
        [..., H, W, C] in at least float32.

    Raises:
        ValueError: for shapes that do not fit, an unknown choice, or a radius outside 1..min(H, W) / 2.

    References:
        J. Yoon et al. (SAFREE), arXiv:2410.12761. Its released scripts leave this step inactive.
    """
    if mode not in ("multiply", "constant") or compare not in ("real", "magnitude"):
        raise ValueError(
            f"mode={mode!r}, compare={compare!r}; choose multiply or constant, real or magnitude"
        )
    filtered, reference = on_device("filtered", filtered), on_device("reference", reference)
    check_shape("reference", reference, filtered.shape)
    height, width = filtered.shape[-3:-1]
    if not 1 <= radius <= min(height, width) // 2:
        raise ValueError(
            f"radius: {radius} for maps of {height} x {width}; pass 1..{min(height, width) // 2}"
        )
    wide = accumulator(filtered, reference)
    spectra = [jnp.fft.fft2(x.astype(wide), axes=(-3, -2)) for x in (filtered, reference)]
    part = jnp.real if compare == "real" else jnp.abs
    mine, theirs = (part(x) for x in spectra)
    above = mine > theirs if mode == "multiply" else ~(theirs > mine)

    def low(n):
        frequency = jnp.round(jnp.fft.fftfreq(n) * n)
        return (frequency >= -radius) & (frequency <= radius - (not symmetric))

    damped = scale * spectra[0] if mode == "multiply" else jnp.asarray(scale, spectra[0].dtype)
    chosen = above & low(height)[:, None, None] & low(width)[None, :, None]
    return jnp.fft.ifft2(jnp.where(chosen, damped, spectra[0]), axes=(-3, -2)).real.astype(wide)
