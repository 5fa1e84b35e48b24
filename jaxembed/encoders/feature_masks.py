"""Which features of an item a view hides: arrays made from a key, so that a new one compiles nothing."""

import jax
import jax.numpy as jnp

from jaxembed.arrays import check_shape


def random_mask(key, features):
    """Random feature mask: hides a random half of the features; ``~mask`` is the complementary view.

    >>> mask = random_mask(jax.random.key(0), 5)
    >>> print(int(mask.sum()), int((~mask).sum()))
    2 3

    Args:
        key: random key, one for a batch: all its items hide the same features.
        features: the number k of features, at least 2, the id among them.

    Returns:
        bool [k], True for the ``k // 2`` hidden features.

    Raises:
        ValueError: for fewer than two features, of which one view would show none.

    References:
        T. Yao et al. (RFM), arXiv:2007.12865. Two draws of different keys, which may overlap, are what
        LibRecommender calls rfm.
    """
    if features < 2:
        raise ValueError(f"features: {features}; one view would show nothing, give at least 2")
    return jax.random.permutation(key, features) < features // 2


def correlated_mask(key, information, *, seed=True):
    """Correlated feature mask: hides a random feature and those that tell most about it.

    A seed feature is drawn. With it the ``k // 2`` features of largest mutual information with it are hidden;
    ties are broken at random. The contrastive task then cannot be solved by a near-copy of a feature that
    the other view, ``~mask``, still shows.

    >>> information = jnp.array([[1.0, 0.9, 0, 0], [0.9, 1.0, 0, 0], [0, 0, 1.0, 0.9], [0, 0, 0.9, 1.0]])
    >>> mask = correlated_mask(jax.random.key(0), information)
    >>> print(int(mask.sum()), bool(mask[:2].all() | mask[2:].all()))
    3 True

    Args:
        key: random key, one for a batch, as the paper draws it: both views need the same seed feature.
        information: [k, k], k at least 3, for example ``data.mutual_information``; the diagonal is not read.
        seed: False hides the ``k // 2`` others and shows the seed, as LibRecommender does.

    Returns:
        bool [k] with ``k // 2 + 1`` hidden features, without the seed ``k // 2``.

    Raises:
        ValueError: for another shape, or fewer than three features.

    References:
        T. Yao et al. (CFM), arXiv:2007.12865, after public write-ups of the paper.
    """
    information = jnp.asarray(information)
    count = information.shape[0] if information.ndim else 0
    check_shape("information", information, (count, count))
    if count < 3:
        raise ValueError(f"information: {count} features; the other view would show nothing, give at least 3")
    chosen_key, tie_key = jax.random.split(key)
    chosen = jax.random.randint(chosen_key, (), 0, count)
    own = jnp.arange(count) == chosen
    values = jnp.where(own, -jnp.inf, information[chosen])
    order = jnp.lexsort((jax.random.permutation(tie_key, count), -values))
    places = jnp.zeros(count, jnp.int32).at[order].set(jnp.arange(count, dtype=jnp.int32))
    return (places < count // 2) | (own & seed)


def drop_values(key, mask, share):
    """Value dropout: hides each value of a multi-valued feature by itself.

    >>> print(int(drop_values(jax.random.key(0), jnp.ones((100, 10), bool), 0.2).sum()))
    804

    Args:
        key: random key; the two views take different ones.
        mask: bool [B, n], True = real value.
        share: of the values that are hidden, within 0..1; may be traced. 1 hides the feature as a mask does:
            a bag without values reads the default of :func:`~jaxembed.encoders.tower`.

    Returns:
        bool [B, n], the mask of the values that stay.

    Raises:
        ValueError: for a share outside 0..1.

    References:
        T. Yao et al., arXiv:2007.12865, the second stage of its augmentation.
    """
    if isinstance(share, int | float) and not 0 <= share <= 1:
        raise ValueError(f"share={share}; give a share within 0..1")
    return jnp.asarray(mask, bool) & jax.random.bernoulli(key, 1 - share, jnp.shape(mask))
