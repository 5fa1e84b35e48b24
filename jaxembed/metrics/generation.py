"""How generated samples compare with real ones: distances of their distributions, judges of their labels."""

import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, exact_product
from jaxembed.extras import brings


def frechet_distance(first, second, *, size=None):
    """Frechet distance: how far apart two sets of vectors are as Gaussians with their means and covariances.

    ``|m1 - m2|**2 + tr(C1 + C2 - 2 (C1 C2)**(1/2))``. With vectors of the Inception network it is FID.

    >>> print(frechet_distance(jnp.array([[-1.0], [1.0]]), jnp.array([[2.0], [6.0]])))
    17.0

    Args:
        first: [N, D], N at least 2; the reference where ``size`` is given.
        second: [M, D], M at least 2.
        size: optional number of principal axes of ``first``, onto which both are projected before.

    Returns:
        Scalar in at least float32, at least 0 up to rounding; covariances divide by N and M.

    Raises:
        ValueError: for sets of another width or fewer than two vectors, or a size outside 1..D.

    References:
        M. Heusel et al., arXiv:1706.08500.
    """
    first, second = (jnp.asarray(x) for x in (first, second))
    check_shape("first", first, (None, None))
    check_shape("second", second, (None, first.shape[1]))
    if min(len(first), len(second)) < 2:
        raise ValueError(f"first, second: {len(first)} and {len(second)} vectors; pass at least two of each")
    if size is not None and not 1 <= size <= first.shape[1]:
        raise ValueError(f"size: {size} is outside 1..{first.shape[1]}, the width of the vectors")
    kind = accumulator(first, second)
    (mean, cov), (other_mean, other) = (_moments(x.astype(kind)) for x in (first, second))
    gap = mean - other_mean
    if size is not None:
        axes = jnp.linalg.eigh(cov)[1][:, ::-1][:, :size]
        gap = exact_product(gap[None], axes)[0]
        cov, other = (exact_product(exact_product(axes.T, c), axes) for c in (cov, other))
    half = _root(cov)
    middle = exact_product(exact_product(half, other), half)
    shared = jnp.sum(jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh((middle + middle.T) / 2), 0)))
    return jnp.sum(gap**2) + jnp.trace(cov) + jnp.trace(other) - 2 * shared


def crop_frechet(first, second, window, *, encode=None, count=1000, size=None, seed=0):
    """Crop Frechet distance: whether crops of large images look like crops of real ones.

    The :func:`frechet_distance` of crops at random places, of both sets at places of their own. With
    Inception's vectors it is Crop FID. Large images are judged by it: there are few of them, but many crops.

    >>> canvases = np.random.default_rng(0).normal(size=(4, 32, 32, 1))
    >>> print(bool(crop_frechet(canvases, canvases, 2) < 0.05), crop_frechet(canvases, canvases + 2, 2) > 15)
    True True

    Args:
        first: [N, H, W, C], the reference.
        second: [M, H', W', C].
        window: side of the crops, at most all of H, W, H' and W'.
        encode: optional function from crops [count, window, window, C] to vectors [count, D]; default the
            pixels.
        count: crops of each set.
        size: as in :func:`frechet_distance`.
        seed: of the places.

    Returns:
        Scalar.

    Raises:
        ValueError: for other shapes, or a window that is larger than an image.

    References:
        A. Graikos et al., arXiv:2312.07330.
    """
    first, second = np.asarray(first), np.asarray(second)
    check_shape("first", first, (None,) * 4)
    check_shape("second", second, (None, None, None, first.shape[3]))
    short = min(*first.shape[1:3], *second.shape[1:3])
    if not 1 <= window <= short:
        raise ValueError(f"window: {window} is outside 1..{short}, the shortest side of the images")
    rng = np.random.default_rng(seed)
    crops = [_crops(rng, images, window, count) for images in (first, second)]
    vectors = [x.reshape(count, -1) if encode is None else encode(x) for x in crops]
    return frechet_distance(*vectors, size=size)


def _crops(rng, images, window, count):
    """Crops [count, window, window, C] at random places of images."""
    number, *limits = (rng.integers(n, size=count) for n in _places(images, window))
    rows, columns = (x[:, None] + np.arange(window) for x in limits)
    return images[number[:, None, None], rows[:, :, None], columns[:, None, :]]


def _places(images, window):
    return len(images), images.shape[1] - window + 1, images.shape[2] - window + 1


def _moments(x):
    mean = jnp.mean(x, axis=0)
    centred = x - mean
    return mean, exact_product(centred.T, centred) / len(x)


def _root(matrix):
    values, directions = jnp.linalg.eigh(matrix)
    return exact_product(directions * jnp.sqrt(jnp.maximum(values, 0)), directions.T)


def pareto_front(points):
    """Pareto front: which points no other point beats, when more is better in every coordinate.

    A point is beaten by one that is at least as good everywhere and better somewhere. Equal points stay.

    >>> print(pareto_front(jnp.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0], [3.0, 1.0]])))
    [ True  True False  True]

    Args:
        points: [N, K], such as text and visual alignment of N settings.

    Returns:
        bool [N]; a point with NaN is never on the front.

    Raises:
        ValueError: for another shape.
    """
    points = jnp.asarray(points)
    check_shape("points", points, (None, None))
    first, second = points[:, None], points[None]
    beaten = jnp.all(second >= first, axis=-1) & jnp.any(second > first, axis=-1)
    return ~jnp.any(beaten, axis=1) & ~jnp.any(jnp.isnan(points), axis=-1)


def fit_judge(vectors, labels, *, c=10.0):
    """Judge: a support vector machine with Gaussian kernels, which says what generated samples show.

    It is scikit-learn's ``SVC(C=c)`` with its default width of the kernels. Unlike a linear classifier it
    tells what a pixel means apart from its sign.

    >>> judge = fit_judge([[-1.0], [-2.0], [1.0], [2.0]], ["low", "low", "high", "high"])
    >>> print(judge([[-3.0], [1.5]]))
    ['low' 'high']

    Args:
        vectors: [N, D]; images may have more axes, which are flattened.
        labels: [N], of at least two classes.
        c: inverse strength of the penalty.

    Returns:
        Function from [M, D], or such images, to the labels [M], a NumPy array.

    Raises:
        ValueError: for labels of another number, of one class, or vectors that are not finite.
    """
    with brings("experiments"):
        from sklearn.svm import SVC
    vectors, labels = _flat(vectors), np.asarray(labels)
    check_shape("labels", labels, (len(vectors),))
    if len(np.unique(labels)) < 2:
        raise ValueError("labels: one class; pass at least two")
    machine = SVC(C=c).fit(vectors, labels)
    return lambda asked: machine.predict(_flat(asked))


def _flat(x):
    x = np.asarray(x, np.float32)
    if x.ndim < 2 or not np.isfinite(x).all():
        raise ValueError(f"vectors: shape {x.shape}; pass finite numbers [N, D]")
    return x.reshape(len(x), -1)
