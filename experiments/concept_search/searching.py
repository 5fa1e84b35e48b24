"""The searches of all seeds at once, held-out losses and drawings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.concept_search.methods import DIGIT, PLACEHOLDER
from experiments.shared import flags
from jaxembed import diffusion, metrics
from jaxembed.data import toy_drawings

STYLES = list(toy_drawings.STYLES)
PROMPT = f"a plain drawing of {PLACEHOLDER}"
DRAWS = {"prediction": "v", "drop": 0.0}


def plain_sevens(part):
    """[N, 8, 8, 1]: the digit in the plain style."""
    drawn = toy_drawings.drawings()[part]
    return drawn["images"][(drawn["digits"] == DIGIT) & (drawn["styles"] == STYLES.index("plain"))]


def batches(cfg, seed, known=None):
    """Images [S, B, 8, 8, 1] of a search, drawn from the few that a seed sees."""
    rng = np.random.default_rng(seed)
    known = plain_sevens("train") if known is None else known
    few = known[rng.choice(len(known), cfg.images, replace=False)]
    return few[rng.integers(0, cfg.images, (cfg.steps, cfg.batch_size))]


def given_of(model, method):
    """What a search is given: for states those of its prompt too, which are encoded once, before it."""
    plain = {"plain": model.encode(model.params, model.ids([PROMPT]))[0]} if method.kind == "rows" else {}
    return method.given | plain


def loss_of(model, method, ids):
    """``(found, frozen, images [B, ...], key, given) -> [B]``, the v-loss of a method."""

    def loss_fn(found, frozen, images, key, given):
        def denoise(params, x, t, ids, inner):
            return model.denoise(params, x, t, method.states(found, params, ids, t, inner, given))

        rows = jnp.broadcast_to(ids, (len(images), ids.shape[-1]))
        loss = diffusion.denoising_loss(model.schedule, denoise, **DRAWS)
        return loss(frozen, {"images": images, "condition": rows}, key)

    return loss_fn


def program(model, method, ids, keep):
    """The compiled search: ``(params, batches [n, S, ...], keys [n], given, rate) -> found, history``."""
    loss_fn = loss_of(model, method, ids)

    @jax.jit
    def run(params, batches, keys, given, rate):
        tx = optax.adamw(rate, weight_decay=1e-4)

        def one(batches, key):
            loss = lambda found, frozen, batch, key: loss_fn(found, frozen, batch, key, given)  # noqa: E731
            options = {"tx": tx, "key": key, "keep": keep}
            return diffusion.search_embeddings(loss, method.start, params, batches, **options)

        return jax.vmap(one)(batches, keys)

    return run


def step_flops(model, method, ids, batch):
    """Floating-point operations of one step of a search, by XLA's count of the program."""
    loss_fn = loss_of(model, method, ids)
    slope = jax.grad(lambda found, *rest: jnp.mean(loss_fn(found, *rest)))
    rest = model.params, batch, jax.random.key(0), given_of(model, method)
    return float(jax.jit(slope).lower(method.start, *rest).cost_analysis()["flops"])


class Held:
    """Held-out images with their times and noise, the same for every method."""

    def __init__(self, model, images, draws):
        images = np.repeat(images, draws, axis=0)
        keys = jax.random.split(jax.random.key(1234))
        self.t = jax.random.randint(keys[0], (len(images),), 0, len(model.schedule["betas"]))
        noise = jax.random.normal(keys[1], images.shape)
        self.x = diffusion.noised(model.schedule, images, self.t, noise)
        self.v = diffusion.convert(model.schedule, self.x, self.t, noise, "noise", "v")
        self.ids = jnp.broadcast_to(model.ids([PROMPT])[0], (len(images), model.length))

        @jax.jit
        def error(params, condition):
            return jnp.mean((model.denoise(params, self.x, self.t, condition) - self.v) ** 2)

        self.error = error

    def of(self, contexts, model, found, given):
        """The v-loss of what a search found."""
        return float(self.error(model.params, contexts(found, model.params, self.ids, self.t, given)))


def contexts_of(method):
    """The compiled conditions of a method, without dropout."""
    states = method.states
    return jax.jit(lambda found, params, ids, t, given: states(found, params, ids, t, None, given))


def sampler(model, steps, scale):
    """A compiled ``(params, key, contexts of 7 styles at each step, rows) -> images`` for all methods."""
    layers = len(model.network.cross_layers)

    @jax.jit
    def run(params, key, contexts, rows):
        null = model.null(params)["tokens"]
        null = jnp.broadcast_to(null, (layers, *null.shape))
        guided = diffusion.guided(model.denoise, scale, {"tokens": null, "values": null})
        condition = lambda number: jax.tree.map(lambda x: x[number][rows], contexts)  # noqa: E731
        options = {"prediction": "v", "spacing": "trailing", "clip": 1.0, "steps": steps}
        shape = (len(rows), *model.shape)
        return diffusion.sample(guided, params, model.schedule, key, shape, condition=condition, **options)

    return run


def drawn(cfg, model, run, contexts, found, given, seed):
    """(plain drawings, drawings in all styles) of a concept."""
    ids = model.ids([f"a {style} drawing of {PLACEHOLDER}" for style in STYLES])
    visited = diffusion.timesteps(len(model.schedule["betas"]), cfg.sampling, "trailing")
    rows, t = np.tile(ids, (len(visited), 1)), np.repeat(visited, len(ids))
    made = contexts(found, model.params, jnp.asarray(rows), jnp.asarray(t), given)
    made = jax.tree.map(lambda x: x.reshape(len(visited), len(ids), *x.shape[1:]), made)
    plain = np.full(len(ids) * cfg.repeats, STYLES.index("plain"))
    every = np.repeat(np.arange(len(ids)), cfg.repeats)
    rows = jnp.asarray(np.concatenate([plain, every]))
    images = np.asarray(run(model.params, jax.random.key(seed), made, rows))
    return images[: len(plain)], images[len(plain) :]


@functools.cache
def judges():
    """Judges of digits and of styles, fitted to all training images."""
    known = toy_drawings.drawings()["train"]
    flags.stage("fits the judges of digits and styles")
    return [metrics.fit_judge(known["images"], known[name]) for name in ("digits", "styles")]


def judged(cfg, plain, every):
    """{"digit": plain drawings judged as the concept, "style": drawings in the style that was asked}."""
    digit, style = judges()
    asked = np.repeat(np.arange(len(STYLES)), cfg.repeats)
    seen = np.asarray(digit(plain)) == DIGIT, np.asarray(style(every)) == asked
    return dict(zip(("digit", "style"), (float(x.mean()) for x in seen), strict=True))
