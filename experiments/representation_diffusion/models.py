"""Windows of mosaics, their encoder, the denoiser that reads its embeddings, a prior over grids of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, diffusion, encoders, losses, metrics, train

TABLE = diffusion.schedule("linear", 1000)
SIDE, WIDTH, CELLS = 8, 32, 4  # of windows, of embeddings, and digits along a mosaic
NOISE = 0.3  # of the two copies by which the encoder learns
NET = encoders.unet(16, (1, 2), attention=(2,), heads=2, decoder=1, groups=4, context=WIDTH)
MAPS = encoders.convnet([16, 32], inputs=1)


def split():
    """{part: digits in -1..1 and labels}; a fifth of the digits is the test."""
    found = data.digits()
    parts = metrics.stratified_folds(found["labels"], folds=5, seed=0)
    named = {"train": (0, 1, 2, 3), "test": (4,)}
    rows = {name: np.isin(parts, which) for name, which in named.items()}
    return {name: (found["images"][r] * 2 - 1, found["labels"][r]) for name, r in rows.items()}


def mosaics(images, labels, count, seed, *, rows=False):
    """Canvases [N, 32, 32, 1] of 4 x 4 digits, labels [N, 4, 4]; ``rows``: one digit fills each row."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(images), size=(count, CELLS, CELLS))
    if rows:
        asked = np.repeat(rng.integers(10, size=(count, CELLS, 1)), CELLS, axis=2)
        places = [np.flatnonzero(labels == n) for n in range(10)]
        chosen = np.vectorize(lambda n: rng.choice(places[n]))(asked)
    found = images[chosen].transpose(0, 1, 3, 2, 4, 5)
    return found.reshape(count, CELLS * SIDE, CELLS * SIDE, 1), labels[chosen]


def windows(canvases, count, seed):
    """``count`` windows [N, 8, 8, 1] at random places of canvases."""
    rng = np.random.default_rng(seed)
    n = rng.integers(len(canvases), size=count)
    i, j = rng.integers(CELLS * SIDE - SIDE + 1, size=(2, count))
    steps = np.arange(SIDE)
    return canvases[n[:, None, None], i[:, None, None] + steps[:, None], j[:, None, None] + steps]


def _fit(init, loss, records, steps, size, rate):
    """An average of the parameters after training by Adam."""
    falling = optax.warmup_cosine_decay_schedule(0.0, rate, min(100, max(1, steps // 2)), steps + 1)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling))
    update = train.ema(
        train.gradient_update(lambda p, b, k: (jnp.mean(loss(p, b, k)), {}), tx),
        lambda n: jnp.minimum(0.998, (1.0 + n) / (10 + n)),
    )
    mesh = train.make_mesh(1) if size % jax.device_count() else None
    batches = data.batches(records, size, seed=0)
    state = train.fit(init=init, update=update, batches=batches, steps=steps, mesh=mesh)
    return state.opt_state["ema"]


def embedded(params, x):
    """Embeddings of windows: two convolutions, and a dense layer that knows the places."""
    maps = MAPS.maps(params["maps"], x)[-1]
    return encoders.mlp(params["dense"], maps.reshape(len(x), -1))


def encoder(cfg, images):
    """A function that embeds windows, learnt by telling two noisy copies of each apart from the others."""

    def init(key):
        first, second = jax.random.split(key)
        sizes = (MAPS.maps(MAPS.init(first), images[:1])[-1].size, WIDTH)
        return {"maps": MAPS.init(first), "dense": encoders.init_mlp(second, sizes)}

    def loss(params, batch, key):
        views = [encoders.augment(k, batch["images"], noise=NOISE) for k in jax.random.split(key)]
        return losses.info_nce(*(embedded(params, x) for x in views), temperature=0.2)

    params = _fit(init, loss, {"images": images}, cfg.encoder_steps, 128, 2e-3)
    run = jax.jit(lambda x: embedded(params, x))

    def encode(images):
        return np.concatenate([np.asarray(run(images[n : n + 512])) for n in range(0, len(images), 512)])

    return encode


def principal(images):
    """A function that embeds windows by their principal axes, the control: nothing but pixels."""
    mean = images.reshape(len(images), -1).mean(axis=0)
    axes = np.linalg.svd(images.reshape(len(images), -1) - mean, full_matrices=False)[2][:WIDTH].T
    return lambda x: ((x.reshape(len(x), -1) - mean) @ axes).astype(np.float32)


def denoise(params, x, t, z, key=None):
    """The U-Net on an embedding [B, D]; zeros are the null condition."""
    tokens = diffusion.embedding_tokens(params["tokens"], z)
    return NET.denoise(params["unet"], x, t, {"tokens": tokens}, key)


def denoiser(cfg, images, z):
    """Parameters of the denoiser of windows given their embeddings."""

    def init(key):
        first, second = jax.random.split(key)
        return {
            "unet": NET.init(first),
            "tokens": diffusion.init_embedding_tokens(second, {"window": WIDTH}, WIDTH),
        }

    loss = diffusion.denoising_loss(TABLE, denoise, prediction="v", drop=0.1, null=jnp.zeros(WIDTH))
    return _fit(init, loss, {"images": images, "condition": z}, cfg.steps, cfg.batch_size, 2e-3)


OPTIONS = {"prediction": "v", "spacing": "trailing", "clip": 1.0}


@functools.lru_cache(maxsize=4)
def _patches(steps):
    def run(params, key, z, scale):
        draw = diffusion.guided(denoise, scale, jnp.zeros(WIDTH))
        shape = (len(z), SIDE, SIDE, 1)
        return diffusion.sample(draw, params, TABLE, key, shape, condition=z, steps=steps, **OPTIONS)

    return jax.jit(run)


def patches(cfg, params, z, seed, scale):
    """An image for every embedding, in blocks of 64; scale 0 draws without any."""
    found = []
    for n in range(0, len(z), 64):
        block = np.zeros((64, WIDTH), np.float32)
        block[: len(z[n : n + 64])] = z[n : n + 64]
        key = jax.random.fold_in(jax.random.key(seed), n)
        found.append(
            np.asarray(_patches(cfg.sampling_steps)(params, key, block, scale))[: len(z[n : n + 64])]
        )
    return np.concatenate(found)


@functools.lru_cache(maxsize=4)
def _canvas(steps, stride):
    side = CELLS * SIDE

    def run(params, key, z, scale):
        draw = diffusion.guided(denoise, scale, jnp.zeros(WIDTH))
        options = OPTIONS | {"window": SIDE, "stride": stride, "condition": z, "steps": steps}
        return diffusion.sample_canvas(draw, params, TABLE, key, (side, side, 1), **options)

    return jax.jit(run)


def canvases(cfg, params, z, seed, stride):
    """A canvas [N, 32, 32, 1] for the embeddings [N, W, D] of all its windows, row by row."""
    run, keys = _canvas(cfg.sampling_steps, stride), jax.random.split(jax.random.key(seed), len(z))
    return np.stack([np.asarray(run(params, k, x, cfg.canvas_scale)) for k, x in zip(keys, z, strict=True)])


def origins(stride):
    return diffusion.window_origins((CELLS * SIDE, CELLS * SIDE), SIDE, stride)


def grids(encode, canvases, stride=SIDE):
    """Embeddings [N, g, g, D] of the windows of canvases, ``stride`` pixels apart."""
    places = origins(stride)
    rows = jax.vmap(lambda x: diffusion.gather_windows(x, places, SIDE))(canvases)
    count = round(len(places) ** 0.5)
    return encode(np.asarray(rows).reshape(-1, SIDE, SIDE, 1)).reshape(len(canvases), count, count, -1)


def between(grids, stride):
    """Embeddings [N, W, D] of windows ``stride`` pixels apart, between those of a grid of cells."""
    return np.asarray(jax.vmap(lambda x: diffusion.interpolate_grid(x, origins(stride), SIDE))(grids))


def cut(canvases):
    """The cells [N, 4, 4, 8, 8, 1] of canvases."""
    return canvases.reshape(-1, CELLS, SIDE, CELLS, SIDE, 1).transpose(0, 1, 3, 2, 4, 5)


def prior(cfg, grids, asked):
    """A function (asked [N, 40], seed) -> grids: a diffusion model over grids, whitened by coordinate."""
    mean, deviation = grids.mean(axis=(0, 1, 2)), grids.std(axis=(0, 1, 2)) + 1e-6
    records = {"images": ((grids - mean) / deviation).astype(np.float32), "condition": asked}
    shape = grids.shape[1:]
    loss = diffusion.denoising_loss(TABLE, diffusion.embedding_prior, prediction="x0", drop=0.0)
    init = functools.partial(diffusion.init_embedding_prior, shape=shape, condition=asked.shape[1])
    params = _fit(init, loss, records, cfg.prior_steps, 128, 1e-3)

    def draw(asked, seed):
        options = {"prediction": "x0", "spacing": "trailing", "steps": cfg.sampling_steps, "condition": asked}
        found = diffusion.sample(
            diffusion.embedding_prior, params, TABLE, jax.random.key(seed), (len(asked), *shape), **options
        )
        return np.asarray(found) * deviation + mean

    return draw
