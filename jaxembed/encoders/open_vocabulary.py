"""Open vocabularies: classes are rows of a table of text vectors, so that new ones need no training."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, inner, on_device, unit
from jaxembed.checks import check_temperature

LEAST = 1e-8  # a shorter vector counts as zero


def cosine_logits(vectors, table, *, background=None, temperature=0.01, frozen=True):
    """Cosine classifier: scores each vector by its cosines with a table of class vectors.

    ``logits[n, c] = cos(vectors[n], table[c]) / temperature``. A learned background vector adds column 0; it
    is normalised like the others, so it is a direction and not a constant logit. Norms and products are in at
    least float32: bfloat16 would round cosines before they are multiplied by 100.

    >>> table = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> print(cosine_logits(jnp.array([[3.0, 4.0]]), table, temperature=1.0).round(3))
    [[0.6 0.8]]

    Adding a class changes no logit of others. ``jax.nn.softmax(logits)[:, 1:]`` is the probability of each
    class beside background, not renormalised.

    Args:
        vectors: [N, D].
        table: [C, D], such as those of :func:`prompt_ensemble`. Any table serves, quantised or cut to a
            prefix too.
        background: optional [D], trained.
        temperature: positive number that divides the cosines; may be traced.
        frozen: True sends no gradient to the table; the background always gets it.

    Returns:
        [N, C], or [N, 1 + C] with a background; in at least float32. A vector shorter than 1e-8 has cosine 0
        with all.

    Raises:
        ValueError: for widths that differ, or a temperature that is not above 0.

    References:
        X. Gu et al., ViLD, arXiv:2104.13921; the temperature 0.01 is that of its code.
    """
    vectors, table = on_device("vectors", vectors), on_device("table", table)
    check_shape("vectors", vectors, (None, None))
    check_shape("table", table, (None, vectors.shape[1]))
    check_temperature(temperature)
    table = jax.lax.stop_gradient(table) if frozen else table
    if background is not None:
        check_shape("background", background, vectors.shape[1:])
        table = jnp.concatenate([jnp.asarray(background)[None].astype(table.dtype), table])
    return inner(_directions(vectors), _directions(table)) / temperature


def _directions(x):
    """Unit vectors in at least float32, zero where they are shorter than LEAST."""
    x = x.astype(accumulator(x))
    short = jnp.sum(x**2, axis=-1, keepdims=True) <= LEAST**2
    return unit(jnp.where(short, 0, x))


def geometric_ensemble(first, second, is_base, *, weight=2 / 3):
    """ViLD ensemble: a geometric mean of two classifiers' probabilities that trusts one for known classes.

    ``p[n, c] = first**weight * second**(1 - weight)`` where class c is a base class; where it is not,
    ``first**(1 - weight) * second**weight``. The first classifier learned from labels of base classes, the
    second from a teacher.

    >>> first, second = jnp.array([[0.9, 0.1]]), jnp.array([[0.1, 0.9]])
    >>> print(geometric_ensemble(first, second, jnp.array([True, False]), weight=1.0))
    [[0.9 0.9]]

    Args:
        first: [N, C], probabilities and not logits: a softmax over background and classes, its background
            column dropped afterwards.
        second: [N, C], a softmax over classes only.
        is_base: bool [C]. All True is a fixed vocabulary: no class is novel.
        weight: number within 0..1; 1/2 makes no difference between classes.

    Returns:
        [N, C] in at least float32. Rows do not sum to 1. A zero probability gives 0.

    Raises:
        ValueError: for shapes that differ.

    References:
        X. Gu et al., ViLD, arXiv:2104.13921; with weight 2/3 the cube root of its code.
    """
    first, second = on_device("first", first), on_device("second", second)
    check_shape("first", first, (None, None))
    check_shape("second", second, first.shape)
    check_shape("is_base", is_base, first.shape[1:])
    wide = accumulator(first, second)
    first, second = first.astype(wide), second.astype(wide)
    share = jnp.where(jnp.asarray(is_base, bool), weight, 1 - weight)
    return first**share * second ** (1 - share)


def systematic_expansion(classes, attributes):
    """Systematic expansion: probabilities of every attribute of every class, taken as independent.

    ``p[n, v, a] = softmax(classes[n])[v] * softmax(attributes[n])[a]``: with p classes and q attributes, a
    vocabulary of p x q from p + q text vectors.

    >>> print(systematic_expansion(jnp.zeros((1, 2)), jnp.zeros((1, 4))).shape)
    (1, 2, 4)

    Args:
        classes: [N, p] logits of :func:`cosine_logits`.
        attributes: [N, q] logits.

    Returns:
        [N, p, q] in at least float32; each row sums to 1.

    References:
        X. Gu et al., ViLD, arXiv:2104.13921.
    """
    classes, attributes = on_device("classes", classes), on_device("attributes", attributes)
    check_shape("classes", classes, (None, None))
    check_shape("attributes", attributes, (len(classes), None))
    wide = accumulator(classes, attributes)
    first, second = (jax.nn.softmax(x.astype(wide)) for x in (classes, attributes))
    return first[:, :, None] * second[:, None]


def prompt_ensemble(encode_texts, names, templates):
    """Prompt ensemble: one vector for each class name, the mean over templates that hold it.

    ``vectors[c] = unit(mean over t, n of unit(encode_texts(t with n)))``, n the names of class c.

    >>> def encode_texts(texts):
    ...     return np.array([[len(text), 1.0] for text in texts])
    >>> print(prompt_ensemble(encode_texts, ["cat", ["dog", "hound"]], ["a {}", "the {}."]).shape)
    (2, 2)

    Args:
        encode_texts: ``list of texts -> [N, D]``, such as ``Encoder.encode_texts``.
        names: sequence of C names; one may be a sequence of synonyms.
        templates: texts with ``{}`` where the name goes.

    Returns:
        float32 NumPy array [C, D], unit rows.

    Raises:
        ValueError: for no names or templates, a class without a name, or a template without ``{}``.

    References:
        A. Radford et al., CLIP, arXiv:2103.00020; X. Gu et al., ViLD, arXiv:2104.13921.
    """
    groups = [[name] if isinstance(name, str) else list(name) for name in names]
    templates = [templates] if isinstance(templates, str) else list(templates)
    if not groups or not all(groups):
        raise ValueError("names: a class without a name, or no class; give each class at least one")
    if not templates or not all("{}" in template for template in templates):
        raise ValueError("templates: each has to hold {} where the name goes")
    texts = [template.replace("{}", name) for group in groups for name in group for template in templates]
    vectors = np.asarray(unit(np.asarray(encode_texts(texts), np.float32)))
    ends = np.cumsum([len(group) * len(templates) for group in groups])
    parts = np.split(vectors, ends[:-1])
    return np.asarray(unit(np.stack([part.mean(axis=0) for part in parts])))
