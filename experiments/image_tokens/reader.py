"""The reader: a small view and compressed tiles as tokens, some of which a question keeps."""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.image_tokens import scenes
from jaxembed import encoders, losses, train
from jaxembed.arrays import masked_mean, unit

SEEN = 48  # width of the frozen features of a patch
QUERIES = 2  # side of the queries of a tile: its 16 tokens become 4
KEPT = 4 * scenes.SIDE**2  # compressed tokens of all tiles


@functools.cache
def trunk_of(width, layers):
    """The transformer over [small view | tiles | words]."""
    length = scenes.SIDE**2 + KEPT + scenes.LENGTH

    def embed(params, batch):
        return batch["tokens"], batch["mask"]

    return encoders.transformer(lambda key: {}, embed, width=width, layers=layers, heads=4, positions=length)


def init(key, *, width, layers):
    """All parameters, and the frozen map of pixels to features."""
    keys = jax.random.split(key, 7)
    normal = jax.random.normal
    resampler = encoders.init_resampler(keys[3], QUERIES, SEEN)
    reader = trunk_of(width, layers).init(keys[6])
    attention = reader["blocks"]["attention"]
    # Keys start as queries: near places of a tile, and words and tokens of one direction, find one another.
    resampler["key_map"] = jax.tree.map(jnp.copy, resampler["query_map"])
    attention["key"] = jax.tree.map(jnp.copy, attention["query"])
    return {
        "seen": {"kernel": normal(keys[0], (12, SEEN)), "bias": normal(keys[1], (SEEN,))},
        "adapter": encoders.init_mlp(keys[2], (SEEN, 2 * width, width)),
        "resampler": resampler,
        "global_resampler": encoders.init_resampler(keys[4], scenes.SIDE, SEEN),
        "mixture": encoders.init_mixture(SEEN, 2),
        "words": {"embedding": normal(keys[5], (len(scenes.WORDS), width)) * width**-0.5},
        "reader": reader,
    }


def tokens_of(params, batch, key):
    """(tokens of the small view, tokens of the tiles, words and their mask)."""

    def seen(patches):
        kernel = jax.lax.stop_gradient(params["seen"])
        return jax.nn.gelu((2 * patches - 1) @ kernel["kernel"] + kernel["bias"])

    def adapter(x):
        return encoders.mlp(params["adapter"], x, activation=jax.nn.gelu)

    count = len(batch["words"])
    tiles = seen(batch["local"]).reshape(-1, batch["local"].shape[2], SEEN)
    local = adapter(encoders.resample(params["resampler"], tiles, heads=4)).reshape(count, KEPT, -1)
    experts = [adapter, lambda x: adapter(encoders.resample(params["global_resampler"], x, heads=4))]
    view = seen(batch["global"])
    whole = encoders.gated_mixture(params["mixture"], view, experts, key=key)
    return whole, local, params["words"]["embedding"][batch["words"]], batch["words"] > 0


def kept_tokens(rule, local, words, mask, key):
    """Bool [B, tokens of the tiles]: what a rule keeps.

    A rule is ("all",), ("share", s) at random, or ("router", sum or mean, p, temperature).
    """
    if rule[0] == "all":
        return jnp.ones(local.shape[:2], bool)
    if rule[0] == "share":
        noise = jax.random.uniform(key, local.shape[:2])
        return jnp.argsort(jnp.argsort(noise, axis=1), axis=1) < round(rule[1] * local.shape[1])
    scores = encoders.token_scores(local, words, mask, reduce=rule[1])
    return encoders.top_p_mask(scores, rule[2], temperature=rule[3])


def logits_of(params, batch, rule, sizes, key):
    """(scores of all answers, what was kept, tokens of the tiles)."""
    noise, choose = (None,) * 2 if key is None else jax.random.split(key)
    whole, local, words, mask = tokens_of(params, batch, noise)
    kept = rule(local, words, mask, choose) if callable(rule) else kept_tokens(rule, local, words, mask, key)
    every = jnp.ones(whole.shape[:2], bool)
    given = {
        "tokens": jnp.concatenate([whole, local, words], axis=1),
        "mask": jnp.concatenate([every, kept, mask], axis=1),
    }
    out = trunk_of(**sizes).hidden(params["reader"], given)["tokens"][:, -words.shape[1] :]
    answers = params["words"]["embedding"][1 : 1 + scenes.DIGITS]
    return 10 * unit(masked_mean(out, mask)) @ unit(answers).T, kept, (whole, local)


def alignment(params, batch, whole, local):
    """Tiles have to name digit and colour, and the small view its colours: one space with the words."""
    tiles = unit(local.reshape(*local.shape[:1], scenes.SIDE**2, -1, local.shape[-1]).mean(axis=2))
    digits, colours = jnp.split(unit(params["words"]["embedding"][1 : 1 + scenes.NAMED]), [scenes.DIGITS])

    def named(tokens, words, right):
        scores = (tokens @ words.T).reshape(-1, len(words))
        return jnp.mean(losses.softmax_loss(scores, positives=right.ravel(), temperature=0.1))

    found = named(tiles, digits, batch["digits"]) + named(tiles, colours, batch["colours"])
    return found + named(unit(whole), colours, batch["colours"])


@functools.cache
def update_of(cfg, tx):
    """A step: answers and alignment. Half of the pictures keep all tokens, half those of the router."""
    sizes, router = {"width": cfg.width, "layers": cfg.layers}, ("router", "sum", cfg.top_p, cfg.temperature)

    def either(local, words, mask, key):
        whole = jax.random.bernoulli(key, 0.5, (len(local), 1))
        return whole | kept_tokens(router, local, words, mask, key)

    def loss_fn(params, batch, key):
        logits, _, tokens = logits_of(params, batch, either, sizes, key)
        asked = jnp.mean(losses.softmax_loss(logits, positives=batch["answer"]))
        return asked + alignment(params, batch, *tokens), {"answers": asked}

    return train.gradient_update(loss_fn, tx)


@functools.cache
def rule_of(cfg, alternating):
    """Adam on everything, or on the adapter, then the resamplers, then everything."""
    rate = optax.adam(cfg.learning_rate)
    if not alternating:
        return rate
    short = max(1, round(cfg.share * cfg.steps))
    first, second = "^(adapter|words|mixture)", "^(resampler|global_resampler)"
    return train.staged(
        [(short, first, rate), (short, second, rate), (max(1, cfg.steps - 2 * short), "", rate)]
    )


@functools.cache
def evaluate_of(width, layers, rule):
    """A compiled ``(params, batch, key) -> (right [B], share of tokens kept [B], of the asked tile [B])``."""

    @jax.jit
    def run(params, batch, key):
        logits, kept, _ = logits_of(
            params, batch, rule, {"width": width, "layers": layers}, key if rule[0] == "share" else None
        )
        tiles = kept.reshape(len(kept), scenes.SIDE**2, -1)
        own = jnp.take_along_axis(tiles, batch["tile"][:, None, None], axis=1)[:, 0]
        return jnp.argmax(logits, axis=1) == batch["answer"], jnp.mean(kept, axis=1), jnp.mean(own, axis=1)

    return run
