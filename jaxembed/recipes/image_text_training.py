"""Training of an image tower and a text tower on pictures with captions."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, train
from jaxembed.arrays import unit

LOSSES = ("clip", "siglip")


class ImageTextModel(NamedTuple):
    """Trained towers: pictures and texts → unit vectors of one space, and classes by their names."""

    params: dict
    towers: Any  # encoders.ImageText
    tokenize: Callable  # list of texts -> batch of arrays that lead with B
    batch_size: int = 64

    def encode_images(self, images):
        """Encodes pictures.

        Args:
            images: [N, H, W, C], as in training.

        Returns:
            float32 NumPy array [N, D] of unit rows.
        """
        return self._encoded(self.towers.encode_images, images)

    def encode_texts(self, texts):
        """Encodes texts.

        Args:
            texts: list of N str.

        Returns:
            float32 NumPy array [N, D] of unit rows.
        """
        return self._encoded(self.towers.encode_texts, self.tokenize(list(texts)))

    def zero_shot(self, images, names, templates=("{}",)):
        """Zero-shot classifier: cosines of pictures with the prompt ensembles of class names.

        Args:
            images: [N, H, W, C].
            names: C names, or sequences of synonyms, as ``encoders.prompt_ensemble`` takes them.
            templates: texts with ``{}`` where the name goes.

        Returns:
            float32 NumPy array [N, C]; the largest names the class.
        """
        table = encoders.prompt_ensemble(self.encode_texts, names, templates)
        return self.encode_images(images) @ table.T

    def _encoded(self, encode, batch):
        """Rows in batches of one size, the last filled up with its first row."""
        count, found, run = len(jax.tree.leaves(batch)[0]), [], _jitted(encode)
        for start in range(0, count, self.batch_size):
            rows = np.minimum(np.arange(start, start + self.batch_size), count - 1)
            found.append(
                np.asarray(run(self.params, jax.tree.map(lambda x, r=rows: np.asarray(x)[r], batch)))
            )
        return np.asarray(unit(np.concatenate(found)[:count].astype(np.float32)))


@functools.lru_cache(maxsize=16)
def _jitted(encode):
    return jax.jit(encode)


def train_image_text(
    towers,
    tokenize,
    pairs,
    *,
    loss="clip",
    chunks=1,
    steps=None,
    batch_size=64,
    rate=1e-3,
    warmup=0.1,
    changes=None,
    frozen=None,
    start=None,
    seed=0,
    mesh=None,
    workdir=None,
    evaluate=None,
    evaluate_every=None,
):
    """Trains two towers so that a picture and its caption come close, by CLIP's or SigLIP's loss, with AdamW.

    Every picture has to pick its caption out of the whole batch, over all devices, and every caption its
    picture. The temperature is learned, and with "siglip" the bias. Captions that are equal are not negatives
    of one another's pictures.

    ``emoji = data.emoji()``
    ``text = encoders.pretrained.load("all-MiniLM-L6-v2")``
    ``towers = encoders.dual_encoder(encoders.convnet([32, 64, 128], width=64), text, maps=(64, 384, 64))``
    ``tokenize = functools.partial(text.tokenize, length=16)``
    ``model = recipes.train_image_text(towers, tokenize, emoji, frozen="^text/")``
    ``model.zero_shot(pictures, ["a cat", "a dog"]).argmax(axis=1)``

    Two models from one start are interpolated by ``weights.merge(first.params, [weights.task_vector(
    second.params, first.params)], 0.5)``, and ``model._replace(params=...)`` is the model between them.

    Args:
        towers: of ``encoders.dual_encoder`` or ``encoders.shared_encoder``.
        tokenize: ``list of texts -> dict of arrays [B, ...]`` that the text tower reads, of one shape for all
            batches.
        pairs: {"images" [N, H, W, C], "texts": N str}, such as ``data.emoji()`` or ``data.stamps()``.
        loss: "clip", the softmax in both directions; or "siglip", each pair by itself.
        chunks: number of parts in which a batch is encoded, with exact gradients in the memory of one part
            (``losses.cached``); divides the batch.
        steps: default as many as read every pair ten times.
        batch_size: pairs per step; all devices of the mesh must divide it.
        rate: highest learning rate.
        warmup: share of the steps in which the rate rises; then it falls along a cosine to zero.
        changes: optional options of ``encoders.augment``, {"shift": 2} for example.
        frozen: optional regex; parameters with such a path stay as they are, "^text/" for example.
        start: optional params of the towers, such as those of a model before; default: drawn.
        seed: of the weights, the batches and the changes.
        mesh: of ``train.make_mesh``; default all devices where they divide ``batch_size``, else one.
        workdir: optional folder of checkpoints; a run that was stopped goes on there.
        evaluate: optional ``model -> {name: number}``.
        evaluate_every: steps between evaluations; default only after the last.

    Returns:
        :class:`ImageTextModel`.

    Raises:
        ValueError: for pairs without a picture or a text, an unknown loss, or a batch above the pairs.

    References:
        A. Radford et al. (CLIP), arXiv:2103.00020; X. Zhai et al. (SigLIP), arXiv:2303.15343; L. Gao et al.
        (GradCache), arXiv:2101.06983; M. Wortsman et al. (WiSE-FT), arXiv:2109.01903 (interpolation).
    """
    images, texts = _checked(pairs, loss, batch_size)
    keys = data.hashed(texts).astype(np.int32)
    steps = max(1, 10 * len(texts) // batch_size) if steps is None else steps

    def make(rows):
        return {"images": images[rows], "texts": tokenize([texts[i] for i in rows]), "keys": keys[rows]}

    def finished(state):
        return ImageTextModel(state.params, towers, tokenize, batch_size)

    state = train.fit(
        init=towers.init if start is None else lambda key: jax.tree.map(jnp.array, start),
        loss_fn=_objective(towers, loss, chunks, tuple(sorted((changes or {}).items()))),
        tx=_optimizer(rate, warmup, steps, frozen),
        batches=data.batches(np.arange(len(texts)), batch_size, make=make, seed=seed),
        steps=steps,
        key=seed,
        mesh=mesh or (train.make_mesh(1) if batch_size % jax.device_count() else None),
        workdir=workdir,
        evaluate=evaluate and (lambda state: evaluate(finished(state))),
        evaluate_every=evaluate_every,
    )
    return finished(state)


def _checked(pairs, loss, batch_size):
    """(images, texts), after what would fail later is refused."""
    missing = {"images", "texts"} - set(pairs)
    if missing:
        raise ValueError(f"pairs: without {' and '.join(sorted(missing))}; a pair is a picture and its text")
    images, texts = np.asarray(pairs["images"]), list(pairs["texts"])
    if images.ndim != 4 or len(images) != len(texts):
        raise ValueError(f"pairs: images {images.shape} for {len(texts)} texts; give each picture its text")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"pairs: text {i} is {str(text)[:20]!r}, not a caption; leave that pair out")
    if images.dtype != np.uint8 and not np.isfinite(images).all():
        row = int(np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))[0])
        raise ValueError(f"pairs: image {row} is not finite; leave that pair out")
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r}; pass one of {', '.join(LOSSES)}")
    if not 2 <= batch_size <= len(texts):
        raise ValueError(f"batch_size: {batch_size} is outside 2..{len(texts)}, the number of pairs")
    return images, texts


@functools.lru_cache(maxsize=16)
def _objective(towers, loss, chunks, changes):
    """The loss of a batch; the same object for the same arguments, so that a second run compiles nothing."""
    encode = {"images": towers.encode_images, "texts": towers.encode_texts}
    if chunks > 1:
        encode = {name: losses.cached(one, chunks) for name, one in encode.items()}

    def loss_fn(params, batch, key):
        change, *drop = jax.random.split(key, 3)
        images = encoders.augment(change, batch["images"], **dict(changes)) if changes else batch["images"]
        vectors = encode["images"](params, images, drop[0]), encode["texts"](params, batch["texts"], drop[1])
        temperature = encoders.learned_temperature(params["scale"])
        options = {"where": losses.duplicate_mask(batch["keys"]), "temperature": temperature}
        if loss == "clip":
            found = losses.symmetric(losses.info_nce)(*vectors, **options)
        else:
            found = losses.sigmoid_loss(*vectors, bias=params["scale"]["bias"], **options)
        return jnp.mean(found), {"temperature": temperature}

    return loss_fn


@functools.lru_cache(maxsize=16)
def _optimizer(rate, warmup, steps, frozen):
    """AdamW whose rate rises along a line and falls along a cosine; one object for the same arguments."""
    warm = min(round(warmup * steps), steps - 1)
    schedule = optax.warmup_cosine_decay_schedule(rate / (warm + 1), rate, warm, steps)
    tx = optax.adamw(schedule, mask=_decayed)
    return tx if frozen is None else train.frozen(tx, frozen)


def _decayed(params):
    """Which parameters decay: all but the temperature and the bias."""
    return {name: jax.tree.map(lambda _, decays=name != "scale": decays, x) for name, x in params.items()}
