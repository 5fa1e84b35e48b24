"""The networks of this question, all trained without labels, and the features that each gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, diffusion, encoders, train

TABLE = diffusion.schedule("linear", 1000)
LATENT = 32  # of the GAN with an encoder
HIDDEN = 128


def network(base):
    return encoders.unet(base, (1, 2), attention=(2,), heads=2, groups=4)


def fitted(cfg, images, seed, at=None):
    """A U-Net trained to predict v at all steps, or as a denoising autoencoder x0 at one step ``at``."""
    net = network(cfg.base)
    loss = _step_loss(net, at) if at is not None else None
    loss = loss or diffusion.denoising_loss(TABLE, net.denoise, prediction="v")

    def loss_fn(params, batch, key):
        return jnp.mean(loss(params, batch, key)), {}

    rate = optax.warmup_cosine_decay_schedule(0.0, cfg.learning_rate, min(100, cfg.steps // 2), cfg.steps + 1)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))
    update = train.ema(train.gradient_update(loss_fn, tx), lambda n: jnp.minimum(0.998, (1.0 + n) / (10 + n)))
    batches = data.batches({"images": images}, cfg.batch_size, seed=seed)
    mesh = train.make_mesh(1) if cfg.batch_size % jax.device_count() else None
    state = train.fit(init=net.init, update=update, batches=batches, steps=cfg.steps, key=seed, mesh=mesh)
    return state.opt_state["ema"]


def _step_loss(net, at):
    def loss(params, batch, key):
        x = batch["images"]
        t = jnp.full(len(x), at)
        out = net.denoise(params, diffusion.noised(TABLE, x, t, jax.random.normal(key, x.shape)), t)
        return jnp.mean((out - x) ** 2, axis=(1, 2, 3))

    return loss


@functools.lru_cache(maxsize=2)
def _reader(base, numbers):
    """A compiled function (params, images, t, key) -> {block: maps}; t is traced, so all steps share it."""
    net = network(base)
    return jax.jit(
        lambda params, x, t, key: diffusion.diffusion_features(
            net.features, params, x, jnp.full(len(x), t), key, TABLE, numbers
        )
    )


def maps(cfg, params, images, t, seed):
    """{block: maps of images} at one step; the noise is that of the seed."""
    numbers = tuple(range(1, len(network(cfg.base).blocks) + 1))
    found = _reader(cfg.base, numbers)(params, images, jnp.int32(t), jax.random.key(seed))
    return {number: np.asarray(x) for number, x in found.items()}


def flat(maps, pool):
    """Maps pooled to pool x pool places, as vectors."""
    return np.asarray(encoders.adaptive_pool(maps, pool)).reshape(len(maps), -1)


def samples(cfg, params, count, seed=0):
    """Images that the model draws."""
    run = jax.jit(
        lambda params, key: diffusion.sample(
            network(cfg.base).denoise,
            params,
            TABLE,
            key,
            (count, 8, 8, 1),
            prediction="v",
            spacing="trailing",
            clip=1.0,
        )
    )
    return np.asarray(run(params, jax.random.key(seed)))


# A GAN with an encoder


def bigans(cfg, images, seeds):
    """BiGAN of three small networks: (x, encode(x)) and (generate(z), z) are told apart; one encode a seed.

    All seeds train side by side.
    """
    sizes = {
        "encode": (64, HIDDEN, LATENT),
        "generate": (LATENT, HIDDEN, 64),
        "tell": (64 + LATENT, HIDDEN, 1),
    }

    def start(seed):
        keys = jax.random.split(jax.random.key(seed), 4)
        params = {n: encoders.init_mlp(k, s) for k, (n, s) in zip(keys, sizes.items(), strict=False)}
        return params, jax.random.split(keys[3], cfg.gan_steps)

    params, keys = jax.vmap(start)(jnp.arange(seeds))
    x = jnp.asarray(images.reshape(len(images), -1))
    params = jax.vmap(_bigan(cfg.batch_size), (0, None, 0))(params, x, keys)
    each = [jax.tree.map(lambda p, n=n: p[n], params["encode"]) for n in range(seeds)]
    return [lambda x, p=p: np.asarray(_leaky(p, jnp.asarray(x.reshape(len(x), -1)))) for p in each]


@functools.lru_cache(maxsize=1)
def _bigan(size):
    """The compiled training, (params, x, keys) -> params: Adam, both sides in each step."""
    tx = optax.adam(2e-4, b1=0.5)

    def scores(own, other, rows, z):
        made = jnp.tanh(_leaky(own["generate"], z))
        real = _leaky(other["tell"], jnp.concatenate([rows, _leaky(own["encode"], rows)], axis=1))
        fake = _leaky(other["tell"], jnp.concatenate([made, z], axis=1))
        return real, fake

    def losses(params, rows, z):
        fixed = jax.lax.stop_gradient(params)
        real, fake = scores(fixed, params, rows, z)
        teller = jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))
        real, fake = scores(params, fixed, rows, z)
        return teller + jnp.mean(jax.nn.softplus(real) + jax.nn.softplus(-fake))

    @jax.jit
    def run(params, x, keys):
        def step(state, key):
            params, opt = state
            which, noise = jax.random.split(key)
            rows = x[jax.random.randint(which, (size,), 0, len(x))]
            slope = jax.grad(losses)(params, rows, jax.random.normal(noise, (size, LATENT)))
            updates, opt = tx.update(slope, opt)
            return (optax.apply_updates(params, updates), opt), None

        return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]

    return run


def _leaky(params, x):
    return encoders.mlp(params, x, activation=lambda y: jax.nn.leaky_relu(y, 0.2))


def corrupted(images, kind, seed=7):
    """Test images moved by one pixel or with a square of 3 x 3 pixels hidden."""
    rng, found = np.random.default_rng(seed), images.copy()
    for n in range(len(found)):
        if kind == "moved":
            found[n] = -1
            i, j = ((0, 1), (0, -1), (1, 0), (-1, 0))[rng.integers(4)]
            a, b = (
                (slice(max(0, s), 8 + min(0, s)) for s in (i, j)),
                (slice(max(0, -s), 8 + min(0, -s)) for s in (i, j)),
            )
            found[n][tuple(a)] = images[n][tuple(b)]
        else:
            i, j = rng.integers(6, size=2)
            found[n, i : i + 3, j : j + 3] = -1
    return found
