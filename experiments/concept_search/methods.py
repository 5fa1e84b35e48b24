"""What is searched in each arm, and how it becomes the token states that a frozen denoiser reads."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import diffusion, encoders
from jaxembed.data import toy_drawings
from jaxembed.layers import layer_norm
from jaxembed.recipes import text_to_image

DIGIT = 7
PLACEHOLDER = toy_drawings.DIGIT_WORDS[DIGIT]  # a word that the model never saw: its row is replaced
TI, XTI, NETI, PLAIN = "textual inversion", "extended textual inversion", "NeTI", "NeTI, bypass off"
ONE, REST, BOUND = "ConES, the slot's row", "ConES, the slot's row and later", "the same, norms bounded"
HIDDEN, FREQUENCIES = 64, 256


class Method(NamedTuple):
    """A way to learn a concept; arms of one ``kind`` share their program.

    Attributes:
        kind: name of the program.
        start: what is searched, a tree.
        states: ``(found, params, ids [B, L], t [B], key, given) -> {"tokens", "values"}`` for the denoiser.
        given: {name: array}, what arms of one kind differ in: an argument of the program.
        rate: learning rate.
    """

    kind: str
    start: object
    states: Callable
    given: dict
    rate: float


def slots(model, ids):
    """bool [B, L], where the placeholder is."""
    return ids == 4 + model.words.index(PLACEHOLDER)


def embedded(model, params, ids, tokens):
    """Token embeddings [B, L, D] of prompts with ``tokens`` [B, D] in the place of the placeholder."""
    rows = model.embed(params, ids)
    tokens = jnp.broadcast_to(tokens, (len(ids), tokens.shape[-1]))
    return jnp.where(slots(model, ids)[..., None], tokens[:, None], rows)


def both(states, layers):
    """The condition whose keys and values read the same states [B, L, D] in every layer."""
    states = jnp.broadcast_to(states[:, None], (len(states), layers, *states.shape[1:]))
    return {"tokens": states, "values": states}


def states_before_norm(model, params, rows):
    """States [B, L, D] of embeddings [B, L, D] before the last norm of the text transformer."""
    sizes = {"width": text_to_image.WIDTH, "layers": text_to_image.LAYERS, "heads": text_to_image.HEADS}
    embed = lambda params, batch: (batch["rows"], jnp.ones(batch["rows"].shape[:2], bool))  # noqa: E731
    options = {"positions": model.length, "causal": True, "final_norm": False, "unroll": text_to_image.LAYERS}
    text = encoders.transformer(lambda key: {}, embed, **sizes, **options)
    return text.hidden(params["text"], {"rows": rows})["tokens"]


def by_layer(model, params, ids, tokens, bypass=None, weight=0.2):
    """The condition of tokens [B, M, D] that differ by layer, with bypasses [B, M, D] for the values."""
    count, layers, width = tokens.shape
    ids = jnp.repeat(ids, layers, axis=0)
    inner = states_before_norm(model, params, embedded(model, params, ids, tokens.reshape(-1, width)))
    passed = inner
    if bypass is not None:
        passed = diffusion.bypass_states(inner, bypass.reshape(-1, width), slots(model, ids), weight=weight)
    norm = lambda x: layer_norm(params["text"]["norm"], x, 1e-6)  # noqa: E731
    made = {"tokens": norm(inner), "values": norm(passed)}
    return jax.tree.map(lambda x: x.reshape(count, layers, *x.shape[1:]), made)


def methods(model, prompt, frequencies, rates):
    """{arm: :class:`Method`} for a model that never saw the word or what it names."""
    known = [4 + model.words.index(w) for w in toy_drawings.DIGIT_WORDS if w != PLACEHOLDER]
    words = jnp.asarray(model.params["text"]["table"]["embedding"])[jnp.array(known)]
    length = jnp.mean(jnp.linalg.norm(words, axis=1))
    token = diffusion.match_norms(jnp.mean(words, axis=0), length * jnp.eye(1, words.shape[1])[0])
    layers, width = len(model.network.cross_layers), words.shape[1]
    ids = jnp.asarray(model.ids([prompt]))
    start = model.encode(model.params, embeddings=embedded(model, model.params, ids, token))[0]
    place = int(jnp.argmax(slots(model, ids)[0]))
    times, numbers = np.meshgrid(np.arange(0, 1000, 100), np.arange(layers), indexing="ij")
    anchors = diffusion.fourier_features(frequencies, np.stack([times, numbers], axis=-1).reshape(-1, 2))
    mapper = diffusion.init_mapper(jax.random.key(0), anchors, width, hidden=HIDDEN)

    def inverted(found, params, ids, t, key, given):
        return both(model.encode(params, embeddings=embedded(model, params, ids, found)), layers)

    def extended(found, params, ids, t, key, given):
        return by_layer(model, params, ids, jnp.broadcast_to(found, (len(ids), layers, width)))

    def mapped(found, params, ids, t, key, given):
        at = jnp.stack(jnp.broadcast_arrays(t[:, None], jnp.arange(layers)), axis=-1)
        features = diffusion.fourier_features(frequencies, at)
        options = {"norm": length, "key": key, "keep": given["keep"]}
        tokens, bypass = diffusion.map_tokens(found, features, **options)
        return by_layer(model, params, ids, tokens, bypass, given["weight"])

    def outputs(found, params, ids, t, key, given):
        rows = diffusion.match_norms(found, given["bound"] * start, longest=True)
        plain = given["plain"] if "plain" in given else model.encode(params, ids)
        states = jnp.where(given["rows"][:, None], rows, plain)
        return both(jnp.broadcast_to(states, (len(ids), *states.shape[-2:])), layers)

    late = jnp.arange(model.length) >= place
    mapping = {"weight": jnp.float32(0.2), "keep": jnp.int32(HIDDEN)}
    free = {"rows": late, "bound": jnp.float32(1e6)}
    row, layered, small, wide = rates
    return {
        TI: Method("token", token, inverted, {}, row),
        XTI: Method("tokens", jnp.tile(token, (layers, 1)), extended, {}, layered),
        PLAIN: Method("mapper", mapper, mapped, mapping | {"weight": jnp.float32(0.0)}, small),
        NETI: Method("mapper", mapper, mapped, mapping, small),
        ONE: Method("rows", start, outputs, free | {"rows": jnp.arange(model.length) == place}, wide),
        REST: Method("rows", start, outputs, free, wide),
        BOUND: Method("rows", start, outputs, free | {"bound": jnp.float32(1.0)}, wide),
    }
