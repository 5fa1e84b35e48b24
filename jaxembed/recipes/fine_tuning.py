"""Fine-tuning of a text encoder on pairs of texts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, train

HEAD = "training_head"  # parameters that training alone has


def fine_tune(
    encoder,
    pairs,
    *,
    loss=None,
    sizes=None,
    guide=None,
    margin=0.0,
    blocks=("qd",),
    steps=None,
    batch_size=64,
    rate=2e-5,
    warmup=0.1,
    length=128,
    temperature=0.05,
    frozen=None,
    head=False,
    seed=0,
    mesh=None,
    workdir=None,
    evaluate=None,
    evaluate_every=None,
):
    """Fine-tuning: trains an encoder so that texts of a pair come close, with AdamW.

    ``first[i]`` has to pick ``second[i]`` out of all second texts of its batch (InfoNCE). A text that equals
    one of the pair's own is not a negative. Where pairs have ``scores``, their order is learned instead
    (CoSENT). The rate rises over the first steps and falls to zero along a line.

    ``encoder = recipes.fine_tune(encoder, data.sentence_pairs("pairs.tsv"), sizes=(64, 128, 384))``

    Texts without partners train too, each the partner of itself (SimCSE without labels). The two sides draw
    other units that are dropped, so their vectors differ:

    ``encoder = encoders.pretrained.load(folder, pooling="cls", dropout=0.1)``
    ``encoder = recipes.fine_tune(encoder, {"first": texts, "second": texts}, head=True, rate=3e-5)``

    Args:
        encoder: of ``encoders.pretrained.load``.
        pairs: ``data.records.Pairs``, or rows (first, second) or (first, second, negative) of texts.
        loss: optional ``(first [B, D], second [N, D], **options) -> [B]`` in place of both; negatives come
            after the second texts. ``options`` has ``where``, bool [B, M] of the pairs of ``blocks`` that
            count, or, for pairs with scores, ``targets`` [B]. Calls with equal arguments share their
            compiled step, so pass the same function to each.
        sizes: optional prefix widths that are trained too (matryoshka); the loss is their mean.
        guide: optional second encoder. Pairs that it finds more similar than the positive are left out of the
            softmax (GISTEmbed).
        margin: of the guide, as in ``losses.guided_mask``.
        blocks: what counts as a negative, as in ``losses.info_nce``: "qq" adds the other first texts, "dd"
            compares second texts with one another. GISTEmbed has ("qd", "qq", "dd").
        steps: default as many as read every pair once.
        batch_size: pairs per step; all devices of the mesh must divide it.
        rate: highest learning rate.
        warmup: share of the steps in which the rate rises.
        length: tokens at which texts are cut, special ones among them.
        temperature: of InfoNCE.
        frozen: optional regex; parameters with such a path stay as they are, ``"^table/"`` for example.
        head: True puts a dense layer with tanh behind the encoder while it trains, which is not kept.
        seed: of the order of the pairs and of dropout.
        mesh: of ``train.make_mesh``; default all devices where they divide ``batch_size``, else one.
        workdir: optional folder of checkpoints; a run that was stopped goes on there.
        evaluate: optional ``encoder -> {name: number}``, written to ``workdir/metrics.jsonl``.
        evaluate_every: steps between evaluations; default only after the last.

    Returns:
        The encoder with new parameters. Write it with ``save``.

    Raises:
        ValueError: for fewer pairs than ``batch_size``, scores together with negatives, a guide or blocks, an
            unknown block, or sizes above the width.

    References:
        A. van den Oord et al., arXiv:1807.03748 (InfoNCE); J. Su, CoSENT; A. Kusupati et al.,
        arXiv:2205.13147 (sizes); A. Solatorio, arXiv:2402.16829 (guide); T. Gao et al. (SimCSE),
        arXiv:2104.08821 (head). Its batch of 64, temperature of 0.05 and dropout of 0.1 are from memory.
    """
    pairs = checked_pairs(encoder, pairs, batch_size, sizes, guide, blocks)
    texts = {name: pairs[name] for name in ("first", "second", "negatives") if pairs.get(name) is not None}
    scores, count = pairs.get("scores"), len(texts["first"])
    steps = max(1, count // batch_size) if steps is None else steps
    guides = {} if guide is None else {n: guide.encode_texts(x, progress=True) for n, x in texts.items()}
    make = batch_maker(encoder, texts, scores, guides, min(length, encoder.max_length))
    sizes = None if sizes is None else tuple(sizes)
    temperature = None if loss else temperature
    encode = _headed(encoder.encode) if head else encoder.encode
    loss_fn = objective(encode, tuple(texts), loss, sizes, temperature, margin, tuple(blocks))

    def trained(params):
        return dataclasses.replace(encoder, params={n: x for n, x in params.items() if n != HEAD})

    state = train.fit(
        init=_start(encoder, head),
        loss_fn=loss_fn,
        tx=_optimizer(rate, warmup, steps, frozen),
        batches=data.batches(np.arange(count), batch_size, make=make, seed=seed),
        steps=steps,
        key=seed,
        mesh=mesh or (train.make_mesh(1) if batch_size % jax.device_count() else None),
        workdir=workdir,
        evaluate=evaluate and (lambda state: evaluate(trained(state.params))),
        evaluate_every=evaluate_every,
    )
    return trained(state.params)


@functools.lru_cache(maxsize=4)
def _start(encoder, head):
    """``key -> params``: those of an encoder, and of the head where there is one; one object for each."""

    def init(key):
        params = jax.tree.map(jnp.copy, encoder.params)
        return params | ({HEAD: encoders.init_mlp(key, (encoder.width, encoder.width))} if head else {})

    return init


@functools.lru_cache(maxsize=16)
def _headed(encode):
    """An encoder with the head behind it; the same object for the same encoder."""

    def run(params, batch, key=None):
        return encoders.mlp(params[HEAD], encode(params, batch, key), activation=jnp.tanh, final=True)

    return run


def batch_maker(encoder, texts, scores, guides, length):
    """``rows -> batch``: the tokens of each text, and what tells which pairs count."""

    def make(rows):
        chosen = {name: [x[i] for i in rows] for name, x in texts.items()}
        batch = {name: encoder.tokenize(x, length=length) for name, x in chosen.items()}
        if scores is not None:
            return batch | {"targets": np.asarray(scores, np.float32)[rows]}
        keys = {name: data.hashed(x).astype(np.int32) for name, x in chosen.items()}
        return batch | {"keys": keys, "guides": {name: x[rows] for name, x in guides.items()}}

    return make


@functools.lru_cache(maxsize=16)
def objective(encode, names, loss, sizes, temperature, margin, blocks):
    """The loss of a batch; the same object for the same arguments, so that a second run compiles nothing."""

    def nested(default):
        chosen = loss or default
        return chosen if sizes is None else losses.matryoshka(chosen, sizes, [1 / len(sizes)] * len(sizes))

    def loss_fn(params, batch, key):
        keys = jax.random.split(key, len(names))
        found = [encode(params, batch[n], k) for n, k in zip(names, keys, strict=True)]
        first, second = found[0], jnp.concatenate(found[1:])
        if "targets" in batch:
            return jnp.mean(nested(losses.cosent)(first, second, targets=batch["targets"])), {}
        default = functools.partial(losses.info_nce, temperature=temperature, blocks=blocks)
        return jnp.mean(nested(default)(first, second, where=_counts(batch, names, margin, blocks))), {}

    return loss_fn


@functools.lru_cache(maxsize=16)
def _optimizer(rate, warmup, steps, frozen):
    """AdamW whose rate rises and falls; the same object for the same arguments."""
    warm = round(warmup * steps)
    schedule = optax.linear_schedule(rate, 0, max(1, steps - warm))
    if warm:
        rise = optax.linear_schedule(rate / (warm + 1), rate, warm)
        schedule = optax.join_schedules([rise, schedule], [warm])
    tx = optax.adamw(schedule)
    return tx if frozen is None else train.frozen(tx, frozen)


def _counts(batch, names, margin, blocks):
    """The pairs that are negatives: other texts, and not hidden by the guide; bool [B, M]."""

    def sides(found):  # by name: under jit a dict is sorted
        return found[names[0]], jnp.concatenate([found[name] for name in names[1:]])

    keep = losses.duplicate_mask(*sides(batch["keys"]), blocks=blocks)
    if batch["guides"]:
        keep = keep & losses.guided_mask(*sides(batch["guides"]), margin=margin, blocks=blocks)
    return keep


def checked_pairs(encoder, pairs, batch_size, sizes, guide, blocks):
    """Pairs as a dict of lists, after what would fail later is refused."""
    if not hasattr(pairs, "keys"):
        rows = [tuple(row) for row in pairs]
        if not rows or {len(row) for row in rows} not in ({2}, {3}):
            raise ValueError("pairs: pass rows (first, second) or (first, second, negative), of one length")
        pairs = dict(zip(("first", "second", "negatives"), map(list, zip(*rows, strict=True)), strict=False))
    scored, known = pairs.get("scores") is not None, ("qd", "qq", "dd", "dq")
    if scored and (pairs.get("negatives") is not None or guide is not None or tuple(blocks) != ("qd",)):
        raise ValueError(
            "pairs: scores cannot be combined with negatives, a guide or blocks; leave one of them out"
        )
    if "qd" not in blocks or not set(blocks) <= set(known):
        raise ValueError(f'blocks={blocks!r}: a subset of {known} with "qd" among them')
    if not 1 <= batch_size <= len(pairs["first"]):
        raise ValueError(f"batch_size: {batch_size} is outside 1..{len(pairs['first'])}, the number of pairs")
    if sizes is not None and max(sizes) > encoder.width:
        raise ValueError(f"sizes: {max(sizes)} is above the encoder's width {encoder.width}")
    return pairs
