"""Training of a small text-to-image model: prompts of whole words, a text transformer, a U-Net."""

import functools
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, diffusion, encoders, train
from jaxembed.checks import check_shares, check_whole
from jaxembed.data import toy_drawings

NETWORK = {"base": 16, "multipliers": (1, 2), "attention": (2,), "heads": 2, "decoder": 1, "groups": 4}
WIDTH, LAYERS, HEADS, LENGTH, STEPS = 64, 2, 4, 8, 1000


class TextToImage(NamedTuple):
    """A text-to-image model: its parameters, its parts, and functions that use them.

    Attributes:
        params: {"text": of the text transformer, "unet": of the U-Net}.
        words: the vocabulary.
        length: L, ids of a prompt.
        shape: (H, W, C) of the images.
        network: ``encoders.UNet``.
        schedule: tables of ``diffusion.schedule``; the network predicts v.
    """

    params: dict
    words: tuple
    length: int
    shape: tuple
    network: encoders.UNet
    schedule: dict

    def ids(self, prompts):
        """Ids int32 [N, L] of prompts; refuses a word that the model does not know."""
        return toy_drawings.word_ids(prompts, self.words, length=self.length)

    def embed(self, params, ids):
        """Token embeddings [B, L, D] of ids [B, L], before the text transformer; a row may be replaced."""
        return jnp.asarray(params["text"]["table"]["embedding"])[jnp.asarray(ids)]

    def encode(self, params, ids=None, *, embeddings=None):
        """States [B, L, D] of ids [B, L], or of the embeddings [B, L, D] of such: what the U-Net reads."""
        return _encode(self.text(), params, ids, embeddings)

    def text(self):
        """The text transformer, ``encoders.Transformer``."""
        return _text(len(self.words), self.length)

    def denoise(self, params, x, t, condition=None, key=None):
        """The network on a condition {"tokens": states, ...}, with the signature of the room diffusion."""
        return self.network.denoise(params["unet"], x, t, condition, key)

    def null(self, params):
        """The null condition of guidance, {"tokens": [L, D]}: the states of the empty prompt."""
        return {"tokens": self.encode(params, self.ids([""]))[0]}

    def sample(self, key, prompts, *, scale=2.0, steps=50, params=None):
        """Draws an image [N, H, W, C] of -1 to 1 for each prompt, by guided DDIM steps.

        Prompts are drawn in blocks of 64, so that one program serves any number of them.
        """
        params, ids, blocks = self.params if params is None else params, self.ids(prompts), []
        for n in range(0, len(ids), 64):
            rows = np.zeros((64, self.length), np.int32)
            rows[: len(ids[n : n + 64])] = ids[n : n + 64]
            drawn = _sampled(
                self._replace(params=None), params, jax.random.fold_in(key, n), rows, scale, steps
            )
            blocks.append(np.asarray(drawn)[: len(ids[n : n + 64])])
        return np.concatenate(blocks) if blocks else np.zeros((0, *self.shape), np.float32)


def fit_text_to_image(
    images,
    prompts,
    *,
    words=None,
    length=LENGTH,
    network=None,
    steps=1500,
    batch_size=64,
    rate=2e-3,
    drop=0.1,
    hide=0.1,
    decay=0.998,
    seed=0,
    mesh=None,
    workdir=None,
    evaluate=None,
    evaluate_every=None,
):
    """Text-to-image model: trains a text transformer and a U-Net with cross-attention together.

    The network predicts v; AdamW has a warm-up of 100 steps and a rate that falls along a cosine to 0;
    gradients are clipped to length 1. What is kept is an average of the parameters over steps. A share
    ``drop`` of the prompts becomes the empty one, which guidance needs. In a share ``hide`` of them one word
    becomes "[mask]", so that a prompt may later be asked without it.

    ``drawn = data.toy_drawings.drawings()["train"]``, then
    ``model = recipes.fit_text_to_image(drawn["images"], drawn["prompts"])``

    Args:
        images: float32 [N, H, W, C] of -1 to 1; sides divisible by the halvings of the network.
        prompts: N strings of words parted by spaces.
        words: the vocabulary; default the words of the prompts.
        length: L, the words of the longest prompt and two more.
        network: options of ``encoders.unet`` over those of the small default, for 8 x 8 pixels.
        steps: number of them.
        batch_size: images of a step.
        rate: highest learning rate.
        drop, hide: shares of the prompts, as above.
        decay: of the average, reached by and by.
        seed: of the weights and batches.
        mesh: of ``train.make_mesh``; default all devices where they divide the batch, else one.
        workdir: optional folder of checkpoints; a run that was stopped goes on there, and one that is done is
            read. A folder with a model of other settings, images or prompts is refused.
        evaluate: optional ``TextToImage -> {name: number}``.
        evaluate_every: steps between evaluations; default only after the last.

    Returns:
        :class:`TextToImage`.

    Raises:
        ValueError: for images and prompts that differ in number, images beyond [-1, 1], a prompt that is too
            long, or words that are not distinct single words. Also for steps or a batch below 1, a share
            outside [0, 1], or a workdir with other settings.

    References:
        T. Salimans and J. Ho, arXiv:2202.00512 (v); J. Ho and T. Salimans, arXiv:2207.12598 (guidance).
    """
    images = _checked(images, prompts)
    known = {w for p in prompts for w in p.split()} - {*toy_drawings.SPECIAL}
    words = _vocabulary(sorted(known) if words is None else words)
    check_shares(drop=drop, hide=hide, decay=decay)
    check_whole(1, steps=steps, batch_size=batch_size)
    options = {**NETWORK, "channels": images.shape[-1], "context": WIDTH, **(network or {})}
    model = _model(options, words, length, images.shape[1:])
    records = {"images": images.astype(np.float32), "ids": model.ids(prompts)}
    settings = {"words": list(words), "length": length, "network": _plain(options), "steps": steps}
    settings |= {"rate": rate, "batch_size": batch_size, "drop": drop, "hide": hide, "decay": decay}
    settings |= {"seed": seed}
    settings |= {"images": len(images), "checksum": _checksum(**records)}

    def finished(state):
        return model._replace(params=state.opt_state["ema"])

    state = train.fit(
        init=functools.partial(_init, model),
        update=_update(model, steps, rate, drop, hide, decay),
        batches=data.batches(records, batch_size, seed=seed),
        steps=steps,
        key=seed,
        mesh=mesh or (train.make_mesh(1) if batch_size % jax.device_count() else None),
        workdir=workdir,
        meta={"text_to_image": _plain(settings)},
        evaluate=evaluate and (lambda state: evaluate(finished(state))),
        evaluate_every=evaluate_every,
    )
    return finished(state)


def drawing_model(
    workdir="runs/drawings",
    *,
    steps=1500,
    seed=0,
    without=toy_drawings.HELD_OUT,
    aliases=None,
    spare=toy_drawings.SPARE,
    **options,
):
    """TinyT2I: the small text-to-image model of digits in seven styles, trained once and then read.

    The defaults are one model for all that experiments ask of it. It never saw "seven", so that a search may
    learn it. Its prompts also call three "trio" and "3", so that a guard of the word has names to miss.

    ``recipes.drawing_model().sample(jax.random.key(0), ["a bold drawing of three"])``

    Args:
        workdir: folder that keeps it; the first call trains, which takes some minutes on two cores.
        steps: number of training steps.
        seed: of weights and batches; the split of the digits is the same for all.
        without: words whose drawings are kept from the training; the vocabulary has them. () trains on all.
        aliases: {word: other names} that the training prompts use for a word as often; default
            ``data.toy_drawings.ALIASES``, {} for none.
        spare: words of the vocabulary that no training prompt has, for concepts that are learned later.
        options: further ones of :func:`fit_text_to_image`.

    Returns:
        :class:`TextToImage`.

    Raises:
        ValueError: for a workdir with a model of other settings, a word to leave out or to alias that no
            prompt has, other names or spare words that the vocabulary has already, or no drawing left.
    """
    drawn, words = toy_drawings.drawings()["train"], toy_drawings.DRAWING_WORDS
    aliases = toy_drawings.ALIASES if aliases is None else aliases
    for name, given in {"without": without, "aliases": aliases}.items():
        unknown = [given] if given is None or isinstance(given, str) else [w for w in given if w not in words]
        if unknown:
            raise ValueError(
                f"{name}: {unknown[0]!r}; pass a tuple of words of the prompts: {' '.join(words)}"
            )
    for name, given in {**{f"aliases[{w!r}]": x for w, x in aliases.items()}, "spare": spare}.items():
        if given is None or isinstance(given, str):
            raise ValueError(f"{name}: {given!r} is not a tuple of words; pass one, as ('seven',), or ()")
    words = _vocabulary((*words, *(name for names in aliases.values() for name in names), *spare))
    rows = np.flatnonzero([not {*without} & {*prompt.split()} for prompt in drawn["prompts"]])
    if not len(rows):
        raise ValueError(f"without: no drawing is left without {' '.join(without)}; leave out fewer words")
    prompts = toy_drawings.with_aliases([drawn["prompts"][n] for n in rows], aliases)
    options = {"words": words, "steps": steps, "seed": seed, "workdir": workdir, **options}
    return fit_text_to_image(drawn["images"][rows], prompts, **options)


def _checked(images, prompts):
    images = np.asarray(images)
    if images.ndim != 4 or len(images) != len(prompts):
        raise ValueError(f"images: shape {images.shape} for {len(prompts)} prompts; pass [N, H, W, C]")
    outside = images[~(np.abs(images) <= 1)]
    if outside.size:
        raise ValueError(f"images: {outside[0]} is not in [-1, 1]; scale 0..255 by images / 127.5 - 1")
    return images


def _vocabulary(words):
    """The words as a tuple; refuses those that no id could name."""
    if isinstance(words, str):
        raise ValueError(f"words: {words!r} is one string; pass a tuple of words")
    seen = {*toy_drawings.SPECIAL}
    for word in words:
        if not isinstance(word, str) or word.split() != [word] or word in seen:
            raise ValueError(f"words: {word!r} is not one new word; pass strings without spaces, each once")
        seen.add(word)
    return tuple(words)


def _checksum(images, ids):
    """One 32-bit number of all images and prompts."""
    return zlib.crc32(np.ascontiguousarray(ids), zlib.crc32(np.ascontiguousarray(images)))


def _plain(options):
    """Options as JSON has them: lists, and numbers of Python."""
    plain = {name: list(x) if isinstance(x, tuple) else x for name, x in options.items()}
    return {name: x.item() if isinstance(x, np.generic) else x for name, x in plain.items()}


def _model(options, words, length, shape):
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    network = encoders.unet(options.pop("base"), options.pop("multipliers"), **options)
    return TextToImage(None, words, length, tuple(shape), network, diffusion.schedule("linear", STEPS))


@functools.lru_cache(maxsize=8)
def _text(words, length):
    rows = len(toy_drawings.SPECIAL) + words

    def init_embed(key):
        return {"table": {"embedding": 0.02 * jax.random.normal(key, (rows, WIDTH))}}

    def embed(params, batch):
        found = batch.get("embeddings")
        found = params["table"]["embedding"][batch["ids"]] if found is None else found
        return found, jnp.ones(found.shape[:2], bool)  # as in CLIP's text encoder, padding is read too

    options = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "positions": length, "unroll": LAYERS}
    return encoders.transformer(init_embed, embed, causal=True, **options)


def _encode(text, params, ids, embeddings):
    batch = {"ids": jnp.asarray(ids)} if embeddings is None else {"embeddings": embeddings}
    return text.hidden(jax.tree.map(jnp.asarray, params["text"]), batch)["tokens"]


def _init(model, key):
    text, unet = jax.random.split(key)
    return {"text": model.text().init(text), "unet": model.network.init(unet)}


def _update(model, steps, rate, drop, hide, decay):
    empty = jnp.asarray(model.ids([""])[0])

    def denoise(params, x, t, ids, key=None):
        return model.denoise(params, x, t, {"tokens": model.encode(params, ids)}, key)

    loss = diffusion.denoising_loss(model.schedule, denoise, prediction="v", drop=drop, null=empty)

    def loss_fn(params, batch, key):
        masking, rest = jax.random.split(key)
        batch = {"images": batch["images"], "condition": _hidden(masking, batch["ids"], hide)}
        return jnp.mean(loss(params, batch, rest)), {}

    falling = optax.warmup_cosine_decay_schedule(0.0, rate, min(100, max(1, steps // 10)), max(steps, 2))
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(falling, weight_decay=1e-4))
    return train.ema(
        train.gradient_update(loss_fn, tx), lambda step: jnp.minimum(decay, (1.0 + step) / (10 + step))
    )


def _hidden(key, ids, share):
    """Ids [B, L] in which, in a share of the rows, one word is the mask."""
    which, place = jax.random.split(key)
    words = jnp.sum(ids > toy_drawings.EOS, axis=1)
    at = 1 + jnp.floor(jax.random.uniform(place, words.shape) * words).astype(jnp.int32)
    gone = jax.random.bernoulli(which, share, words.shape) & (words > 0)
    chosen = gone[:, None] & (jnp.arange(ids.shape[1]) == at[:, None])
    return jnp.where(chosen, toy_drawings.MASK, ids)


def _sampled(model, params, key, ids, scale, steps):
    key_of = (model.words, model.length, model.shape, model.network)
    return _program(key_of, int(steps))(params, key, ids, jnp.asarray(scale, jnp.float32))


@functools.lru_cache(maxsize=16)
def _program(parts, steps):
    """The compiled sampler of a model; parameters and guidance are arguments."""
    words, length, shape, network = parts
    model = TextToImage(None, words, length, shape, network, diffusion.schedule("linear", STEPS))

    @jax.jit
    def run(params, key, ids, scale):
        condition = {"tokens": model.encode(params, ids)}
        guided = diffusion.guided(model.denoise, scale, model.null(params))
        options = {"prediction": "v", "spacing": "trailing", "clip": 1.0, "steps": steps}
        return diffusion.sample(
            guided, params, model.schedule, key, (len(ids), *shape), condition=condition, **options
        )

    return run
