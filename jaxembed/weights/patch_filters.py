"""Banks of filters fitted to patches of pictures: PCA, LDA, k-means."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, exact_product, spectrum, unit
from jaxembed.checks import check_whole
from jaxembed.weights._patches import check_finite_patches, checked_patches, upright


def draw_patches(key, images, size, count, *, shifts=0):
    """Patches: cuts squares out of random places of random pictures.

    >>> images = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> print(draw_patches(jax.random.key(0), images, 2, 3).shape)
    (3, 4)

    Args:
        key: random key.
        images: [B, H, W, C], floats or uint8.
        size: side k of the patches, at most H and W.
        count: N patches.
        shifts: S; above 0 every patch comes in all its shifts by up to S pixels, [N, (S + 1)**2, P], which
            :func:`kmeans_filters` aligns.

    Returns:
        [N, P] with P = k * k * C, in the order of the axes of a kernel, float.

    Raises:
        ValueError: for pictures that are smaller than ``size + shifts``, and numbers below 1.
    """
    images = jnp.asarray(images)
    check_whole(size=size, count=count, shifts=shifts)
    if min(size, count) < 1 or shifts < 0:
        raise ValueError(f"size: {size}, count {count}, shifts {shifts}; pass at least 1, 1 and 0")
    if images.ndim != 4 or min(images.shape[1:3], default=0) < size + shifts or not len(images):
        raise ValueError(f"images: shape {images.shape}; pass [B, H, W, C] with sides from {size + shifts}")
    return _drawn(key, images, size, count, shifts)


@functools.partial(jax.jit, static_argnames=("size", "count", "shifts"))
def _drawn(key, images, size, count, shifts):
    batch, height, width, channels = images.shape
    side = size + shifts
    limits = jnp.array([batch, height - side + 1, width - side + 1])
    places = jax.random.randint(key, (count, 3), 0, limits)

    def window(place):
        return jax.lax.dynamic_slice(images, (*place, 0), (1, side, side, channels))[0]

    windows = jax.vmap(window)(places).astype(accumulator(images))
    moved = [windows[:, i : i + size, j : j + size] for i, j in np.ndindex(shifts + 1, shifts + 1)]
    moved = [x.reshape(count, -1) for x in moved]
    return jnp.stack(moved, axis=1) if shifts else moved[0]


def normalise_patches(patches, epsilon=10 / 255**2):
    """Contrast normalisation: gives each patch mean 0 and about variance 1.

    ``(x - mean) / sqrt(variance + epsilon)``

    >>> print(normalise_patches(jnp.array([[0.0, 2.0], [1.0, 1.0]]), 0.0 + 1e-6).round(2))
    [[-1.  1.]
     [ 0.  0.]]

    Args:
        patches: [..., P].
        epsilon: above 0; keeps flat patches flat. The default is for pixels of 0 to 1, 10 is for 0 to 255.

    Returns:
        [..., P] in at least float32.

    References:
        A. Coates et al., An analysis of single-layer networks in unsupervised feature learning, 2011.
    """
    patches = jnp.asarray(patches)
    wide = patches.astype(accumulator(patches))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + epsilon)


def fold_whitening(filters, whitening):
    """Folds whitening into filters: what they give on whitened patches, they give on the patches themselves.

    ``filters . ((x - mean) kernel) = folded . x + bias``

    >>> whitening = {"mean": jnp.array([1.0, 0.0]), "kernel": jnp.diag(jnp.array([0.5, 2.0]))}
    >>> folded, bias = fold_whitening(jnp.array([[1.0, 1.0]]), whitening)
    >>> print(folded, bias)
    [[0.5 2. ]] [-0.5]

    Args:
        filters: [K, Q], fitted to whitened patches.
        whitening: ``mean`` [P] and ``kernel`` [P, Q], of ``vectors.fit_whiten``.

    Returns:
        (filters [K, P], bias [K]) of a convolution.
    """
    filters = jnp.asarray(filters)
    if filters.ndim != 2 or filters.shape[1] != whitening["kernel"].shape[1]:
        wanted = whitening["kernel"].shape[1]
        raise ValueError(f"filters: shape {filters.shape}; pass [K, {wanted}], as the whitening gives")
    folded = exact_product(filters, whitening["kernel"].T)
    return folded, -folded @ whitening["mean"]


def pca_filters(patches, count):
    """PCA filters: the directions in which patches vary most, after each patch's mean is removed.

    >>> patches = jnp.array([[2.0, -2.0, 0.0], [-2.0, 2.0, 0.0], [0.5, 0.5, -1.0], [-0.5, -0.5, 1.0]])
    >>> print(abs(pca_filters(patches, 1)).round(3))
    [[0.707 0.707 0.   ]]

    Args:
        patches: [N, P].
        count: K of the P directions, the strongest first.

    Returns:
        [K, P], orthonormal; of each filter the number of largest size is positive.

    References:
        T.-H. Chan et al. (PCANet), arXiv:1404.3606.
    """
    patches = checked_patches(patches)
    check_whole(count=count)
    if not 1 <= count <= patches.shape[1]:
        raise ValueError(
            f"count: {count} is outside 1..{patches.shape[1]}, the directions there are; choose one"
        )
    centred = patches - jnp.mean(patches, axis=1, keepdims=True)
    return upright(spectrum(centred, jnp.ones(len(patches), bool))[1].T[:count])


def lda_filters(patches, labels, count, *, ridge=1e-3):
    """LDA filters: the directions that tell classes apart, of most variance between to that within them.

    They solve ``S_b f = l (S_w + ridge t I) f`` for the largest l, with t the mean diagonal of S_w, and are
    scaled to length 1.

    >>> patches = jnp.array([[0.0, 5.0], [0.1, -5.0], [1.0, 5.0], [1.1, -5.0]])
    >>> print(abs(lda_filters(patches, np.array([0, 0, 1, 1]), 1)).round(1))
    [[1. 0.]]

    Args:
        patches: [N, P].
        labels: int [N], from 0, such as those of the pictures that the patches are cut out of.
        count: K filters, at most one fewer than there are classes.
        ridge: share of the mean variance that is added within classes.

    Returns:
        [K, P], the most telling first.

    References:
        R. A. Fisher, 1936.
    """
    patches, labels = checked_patches(patches), np.asarray(labels)
    if labels.shape != (len(patches),) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels: {labels.dtype} {labels.shape}; pass integers [{len(patches)}]")
    names, numbers = np.unique(labels, return_inverse=True)
    check_whole(count=count)
    if not 1 <= count < len(names):
        raise ValueError(
            f"count: {count} is outside 1..{len(names) - 1}, one fewer than the classes; choose one"
        )
    found = _discriminants(patches, numbers, count, len(names), ridge)
    if not isinstance(found, jax.core.Tracer) and not jnp.isfinite(found).all():
        raise ValueError("patches: no variance within classes; pass patches that differ, or a ridge above 0")
    return found


@functools.partial(jax.jit, static_argnames=("count", "classes"))
def _discriminants(patches, labels, count, classes, ridge):
    sizes = jax.ops.segment_sum(jnp.ones(len(patches), patches.dtype), labels, classes)
    means = jax.ops.segment_sum(patches, labels, classes) / sizes[:, None]
    within = patches - means[labels]
    between = (means - jnp.mean(patches, axis=0)) * jnp.sqrt(sizes / len(patches))[:, None]
    spread = exact_product(within.T, within) / len(patches)
    values, turn = jnp.linalg.eigh(spread + ridge * jnp.trace(spread) / len(spread) * jnp.eye(len(spread)))
    whitened = exact_product(between, turn) * jax.lax.rsqrt(values)
    _, directions = spectrum(whitened, jnp.ones(classes, bool))
    found = exact_product(turn * jax.lax.rsqrt(values), directions[:, :count]).T
    return upright(unit(found))


def kmeans_filters(key, patches, count, *, steps=30, spherical=True):
    """k-means filters: the centres of groups of patches.

    - spherical: each patch goes to the centre of largest inner product, and each centre becomes the sum of
      its patches, scaled to length 1.
    - else: to the nearest centre, which becomes the mean of its patches.

    A centre without patches moves to the patch that fits its centre worst. With all shifts of every patch,
    [N, M, P], each patch takes part in the one shift that fits a centre best (convolutional k-means), so that
    centres need not be shifted copies of one another.

    >>> patches = jnp.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0]])
    >>> print(jnp.linalg.norm(kmeans_filters(jax.random.key(0), patches, 2), axis=1).round(3))
    [1. 1.]

    Args:
        key: random key; the first centres are patches that it draws.
        patches: [N, P], normalised and best whitened; or [N, M, P] of ``draw_patches(..., shifts=)``.
        count: K centres, at most N.
        steps: rounds over all patches.
        spherical: see above.

    Returns:
        [K, P].

    References:
        A. Coates and A. Ng, Learning feature representations with k-means, 2012. Convolutional: A. Dundar et
        al., arXiv:1511.06241.
    """
    patches = jnp.asarray(patches)
    if patches.ndim not in (2, 3) or not patches.size:
        raise ValueError(f"patches: shape {patches.shape}; pass [N, P], or [N, M, P] with M shifts")
    check_finite_patches(patches)
    check_whole(count=count, steps=steps)
    if not 1 <= count <= len(patches):
        raise ValueError(f"count: {count} is outside 1..{len(patches)}, the number of patches; choose one")
    patches = patches.astype(accumulator(patches))
    return _kmeans(key, patches if patches.ndim == 3 else patches[:, None], count, steps, spherical)


@functools.partial(jax.jit, static_argnames=("count", "steps", "spherical"))
def _kmeans(key, patches, count, steps, spherical):
    rows = jnp.arange(len(patches))
    start = patches[jax.random.choice(key, len(patches), (count,), replace=False), 0]
    centres = unit(start) if spherical else start
    flat = patches.reshape(-1, patches.shape[-1])

    def step(_, centres):
        half = 0 if spherical else jnp.sum(centres**2, axis=1) / 2
        fit = (exact_product(flat, centres.T) - half).reshape(len(patches), -1)  # [N, M * K]
        best = jnp.argmax(fit, axis=1)
        groups, chosen = best % count, patches[rows, best // count]
        sums = jax.ops.segment_sum(chosen, groups, count)
        sizes = jax.ops.segment_sum(jnp.ones_like(fit[:, 0]), groups, count)
        means = unit(sums) if spherical else sums / jnp.maximum(sizes, 1)[:, None]
        misfit = jnp.sum((chosen - centres[groups]) ** 2, axis=1)
        worst = jax.lax.top_k(misfit, count)[1][jnp.cumsum(sizes == 0) - 1]
        moved = unit(chosen[worst]) if spherical else chosen[worst]
        return jnp.where((sizes == 0)[:, None], moved, means)

    return jax.lax.fori_loop(0, steps, step, centres)
