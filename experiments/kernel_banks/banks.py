"""The data, and the banks of filters: each is fitted to patches of pictures without labels, or to nothing."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import data, vectors, weights

DRAWN, DCT, GABOR, PCA, LDA = "random (He)", "DCT", "Gabor", "PCA", "LDA"
KMEANS, WHITE, ALIGNED = "k-means", "k-means, whitened", "k-means, convolutional"
SPARSE, OJA, MAP = "sparse coding", "Oja", "map (SOM)"
BANKS = (DRAWN, DCT, GABOR, PCA, OJA, LDA, KMEANS, WHITE, ALIGNED, SPARSE, MAP)
FITTED = (DCT, PCA, WHITE)  # of the claim
RIDGE = 0.1  # of the whitening
HELD = {"digits": (200, 400), "fashion": (2000, 5000)}  # pictures for validation and for the test
PLACES = 4  # pooled places on each side of a picture


class Task(NamedTuple):
    """Pictures and labels of three sets, and the side of filters."""

    known: dict
    held: dict
    size: int


@functools.cache
def task_of(name, validate):
    """Pictures of 0 to 1. What is held is the validation set with ``--validate``, else the test set."""
    found = data.digits() if name == "digits" else data.fashion_mnist("train")
    images = found["images"].astype(np.float32) / (1 if name == "digits" else 255)
    order = np.random.default_rng(7).permutation(len(images))
    held, test = HELD[name]
    parts = np.split(order, [held, held + test])
    chosen = parts[0] if validate else parts[1]
    known = parts[2][:10_000]
    cut = [{"images": images[rows], "labels": found["labels"][rows]} for rows in (known, chosen)]
    return Task(*cut, 3 if name == "digits" else 5)


def labelled(task, seed, count):
    """Pictures with labels: nested sets, in an order that the seed draws."""
    rows = np.random.default_rng((seed, 3)).permutation(len(task.known["labels"]))[:count]
    return {name: x[rows] for name, x in task.known.items()}


def bank_of(cfg, name, seed, count):
    """A bank as (kernel [k, k, 1, K], bias [K]); LDA looks at ``count`` pictures with labels."""
    return _bank(cfg, name, seed, count if name == LDA else None)


@functools.cache
def _bank(cfg, name, seed, count):
    """The same, scaled so that its outputs on pictures have variance 1."""
    task = task_of(cfg.data, cfg.validate)
    kernel, bias = _raw(cfg, task, name, seed, count and labelled(task, seed, count))
    scale = _deviation(kernel, bias, task.known["images"][:500])
    return kernel / scale, bias / scale


@jax.jit
def _deviation(kernel, bias, images):
    return jnp.std(maps(kernel, bias, images))


def maps(kernel, bias, images):
    """The outputs of one convolution, before the activation."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=numbers) + bias


def _raw(cfg, task, name, seed, few):
    key, size, none = jax.random.key(seed), task.size, jnp.zeros(cfg.filters)
    shape = (size, size, 1, cfg.filters)
    if name == DRAWN:
        return jax.nn.initializers.he_normal()(key, shape), none
    if name in (DCT, GABOR):
        bank = weights.dct_bank(size) if name == DCT else weights.gabor_bank(size)
        return weights.bank_initializer(bank)(key, shape), none
    filters, bias = fitted(cfg, task, name, key, few)
    if len(filters) < cfg.filters:  # directions, of which both signs pass the ReLU
        return weights.bank_initializer(filters)(key, shape), none
    return weights.filters_to_kernel(filters, shape[:3]), bias


def fitted(cfg, task, name, key, few):
    """Filters [K, P] and bias [K] from patches of pictures."""
    cut, fit = jax.random.split(key)
    half, shifts = max(1, min(cfg.filters // 2, 8)), task.size - 1 if name == ALIGNED else 0
    patches = weights.draw_patches(cut, task.known["images"], task.size, cfg.patches, shifts=shifts)
    patches = weights.normalise_patches(patches)
    if name == LDA:
        patches, labels = labelled_patches(cfg, task, few, cut)
        return weights.lda_filters(patches, labels, min(half, len(set(labels.tolist())) - 1)), None
    if name == PCA:
        return weights.pca_filters(patches, half), None
    if name == OJA:
        return weights.oja_filters(fit, patches, half), None
    if name == KMEANS:
        return weights.kmeans_filters(fit, patches, cfg.filters), jnp.zeros(cfg.filters)
    if name == MAP:
        grid = (cfg.filters // 4, 4) if cfg.filters % 4 == 0 else (1, cfg.filters)
        return weights.som_filters(fit, patches, grid), jnp.zeros(cfg.filters)
    whitening = vectors.fit_whiten(patches.reshape(-1, patches.shape[-1])[:20_000], ridge=RIDGE)
    white = vectors.standardise(whitening, patches.reshape(-1, patches.shape[-1])).reshape(patches.shape)
    make = weights.sparse_filters if name == SPARSE else weights.kmeans_filters
    return weights.fold_whitening(make(fit, white, cfg.filters), whitening)


def labelled_patches(cfg, task, few, key):
    """Patches of the pictures with labels, as many from each, and their labels."""
    each = -(-cfg.patches // len(few["labels"]))
    keys = jax.random.split(key, len(few["labels"]))
    draw = functools.partial(weights.draw_patches, size=task.size, count=each)
    cut = jax.vmap(lambda key, image: draw(key, image[None]))(keys, jnp.asarray(few["images"]))
    return weights.normalise_patches(cut.reshape(-1, cut.shape[-1])), np.repeat(few["labels"], each)


def shown(cfg):
    """The kernels of all banks of the first seed, [K, k, k] each, for the picture."""
    kernels = {name: bank_of(cfg, name, 0, max(cfg.labels))[0] for name in BANKS}
    return {name: np.asarray(x[:, :, 0].transpose(2, 0, 1)).round(3).tolist() for name, x in kernels.items()}


# Shifted copies


def similarity(filters, size):
    """Of all pairs of filters the largest |cosine| over all shifts: its mean, and the share above 0.8."""
    filters = np.asarray(filters).reshape(-1, size, size)
    filters = filters - filters.mean(axis=(1, 2), keepdims=True)
    filters /= np.linalg.norm(filters, axis=(1, 2), keepdims=True)
    width = 3 * size - 2
    spectra = np.fft.fft2(filters, (width, width))
    found = np.real(np.fft.ifft2(spectra[:, None] * spectra[None].conj()))
    best = np.abs(found).max(axis=(2, 3))
    pairs = best[~np.eye(len(best), dtype=bool)]
    return float(pairs.mean()), float(np.mean(pairs > 0.8))


def copies(cfg, size=6, count=32):
    """Means and shares of :func:`similarity`, {bank: values of the seeds}, on pieces of two photographs."""
    places = (data.package_file("sklearn", f"datasets/images/{name}.jpg") for name in ("china", "flower"))
    images = np.stack([data.read_image(place, 400, channels=1) for place in places]).astype(np.float32) / 255
    means, shares = {WHITE: [], ALIGNED: []}, {WHITE: [], ALIGNED: []}
    for seed in range(cfg.seeds):
        cut, fit = jax.random.split(jax.random.key(seed))
        windows = weights.normalise_patches(weights.draw_patches(cut, images, size, cfg.patches, shifts=size))
        flat = windows.reshape(-1, windows.shape[-1])
        whitening = vectors.fit_whiten(flat[:20_000], ridge=RIDGE)
        white = vectors.standardise(whitening, flat).reshape(windows.shape)
        for name, patches in ((WHITE, white[:, 0]), (ALIGNED, white)):
            mean, share = similarity(weights.kmeans_filters(fit, patches, count), size)
            means[name].append(mean)
            shares[name].append(share)
    return means, shares
