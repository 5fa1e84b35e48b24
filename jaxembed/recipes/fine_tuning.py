"""Fine-tuning of a text encoder on pairs of texts."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, train, weights
from jaxembed.arrays import unit

HEAD, ADAPTERS = "training_head", "training_adapters"  # parameters that training alone has
KERNELS = "^blocks/.*kernel$"  # that get adapters
SCALE = 2.0  # of adapters: NV-Embed's alpha of 32 over its rank of 16


def fine_tune(
    encoder,
    pairs,
    *,
    loss=None,
    sizes=None,
    layers=None,
    guide=None,
    margin=0.0,
    violators=False,
    blocks=("qd",),
    in_batch=True,
    prompts=None,
    steps=None,
    batch_size=64,
    rate=2e-5,
    warmup=0.1,
    length=128,
    temperature=0.05,
    frozen=None,
    rank=None,
    magnitudes=False,
    adapters=None,
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

    All blocks can learn to end the encoder (2DMSE, ESE, Starbucks; ``Encoder.first`` cuts it afterwards):

    ``layers = functools.partial(losses.two_dimensional, layers=encoder.depth, sizes=(64, 128, 384))``
    ``encoder = recipes.fine_tune(encoder, pairs, layers=layers)``

    Texts without partners train too, each the partner of itself (SimCSE without labels). The two sides draw
    other units that are dropped, so their vectors differ:

    ``encoder = encoders.pretrained.load(folder, pooling="cls", dropout=0.1)``
    ``encoder = recipes.fine_tune(encoder, {"first": texts, "second": texts}, head=True, rate=3e-5)``

    Pairs of several tasks train together, each with its instruction. A class comes more than once in a batch,
    so pairs of labelled texts (``data.labelled_pairs``) keep to their own negatives; a big decoder learns by
    adapters of low rank:

    ``asked = encoders.instruction("Which group is it of?")``
    ``encoder = recipes.fine_tune(encoder, pairs, prompts={"first": asked}, in_batch=False, rank=16)``

    Args:
        encoder: of ``encoders.pretrained.load``.
        pairs: ``data.records.Pairs``, or rows (first, second) or (first, second, negative) of texts.
        loss: optional ``(first [B, D], second [N, D], **options) -> [B]`` in place of both; negatives come
            after the second texts. ``options`` has ``where``, bool [B, M] of the pairs of ``blocks`` that
            count, or, for pairs with scores, ``targets`` [B]. Calls with equal arguments share their
            compiled step, so pass the same function to each.
        sizes: optional prefix widths that are trained too (matryoshka); the loss is their mean.
        layers: optional function of a loss on vectors, that returns an objective over all blocks, ``(key,
            first [B, L+1, D], second [N, L+1, D], **options) -> scalar``. Row n of an array are the vectors
            after block n, at the length sqrt(D), so that a pull between blocks has one scale.
        guide: optional second encoder. Pairs that it finds more similar than the positive are left out of the
            softmax (GISTEmbed). It reads the texts by its own tokenizer, whole, with its own prompts.
        margin: of the guide, as in ``losses.guided_mask``.
        violators: True keeps only the negatives that the encoder ranks above the positive itself
            (``losses.violator_mask``), the mode "hard" of GISTEmbed.
        blocks: what counts as a negative, as in ``losses.info_nce``: "qq" adds the other first texts, "dd"
            compares second texts with one another. GISTEmbed has ("qd", "qq", "dd").
        in_batch: bool, or bool [N] of the pairs. False leaves a first text to its own negative and drops the
            texts of other pairs, as in ``losses.info_nce``.
        prompts: optional {"first", "second" or "negatives": a text that is put in front, or N of them}.
            Sides that are not named get what the encoder's folder says. Whether prompts are pooled is for the
            encoder to say (``encoders.with_prompts``).
        steps: default as many as read every pair once.
        batch_size: pairs per step; all devices of the mesh must divide it.
        rate: highest learning rate, or a schedule of optax, ``step -> rate``, in place of rise and fall.
        warmup: share of the steps in which the rate rises.
        length: tokens at which texts are cut, special ones among them.
        temperature: of InfoNCE.
        frozen: optional regex; parameters with such a path stay as they are, ``"^table/"`` for example.
        rank: optional rank of adapters (LoRA) beside the kernels of all blocks, which are trained alone and
            added to the kernels at the end, with ``weights.low_rank`` at scale 2. None trains everything.
        magnitudes: True trains the lengths of the kernels' columns apart from their directions (DoRA).
        adapters: optional folder, in which the adapters are written in the layout of PEFT too. It does not
            exist yet, or is empty; ``recipes.with_adapters`` reads it.
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
            unknown block, or sizes above the width. Also for ``in_batch`` or prompts of another number than
            the pairs, for scores with violators or ``in_batch``, for a rank together with ``frozen``, for
            magnitudes or a folder of adapters without a rank, and for layers with sizes, a head or violators.
        FileExistsError: when the folder of adapters holds something.

    References:
        A. van den Oord et al., arXiv:1807.03748 (InfoNCE); J. Su, CoSENT; A. Kusupati et al.,
        arXiv:2205.13147 (sizes); X. Li et al., arXiv:2402.14776 (layers); A. Solatorio, arXiv:2402.16829
        (guide); T. Gao et al. (SimCSE), arXiv:2104.08821 (head); C. Lee et al. (NV-Embed), arXiv:2405.17428
        (in_batch, prompts; rank 16, scale 32 / 16; its dropout of 0.1 on adapters is left out); E. Hu et al.
        (LoRA), arXiv:2106.09685; S.-Y. Liu et al. (DoRA), arXiv:2402.09353. SimCSE's batch of 64, temperature
        of 0.05 and dropout of 0.1 are from memory.
    """
    pairs = checked_pairs(encoder, pairs, batch_size, sizes, guide, blocks)
    switch, prompts = checked_parts(pairs, in_batch, prompts, violators, rank and frozen)
    _check_options(layers, sizes, head, violators, rank, magnitudes, adapters)
    steps = max(1, len(pairs["first"]) // batch_size) if steps is None else steps
    texts, make = _reader(encoder, pairs, guide, length, in_batch=switch, prompts=prompts)
    rules = (None if sizes is None else tuple(sizes), None if loss else temperature, margin, tuple(blocks))
    loss_fn = objective(_trained_by(encoder, head, layers), tuple(texts), loss, *rules, violators, layers)
    state = train.fit(
        init=_start(encoder, head, rank, magnitudes),
        loss_fn=loss_fn if rank is None else _adapted(loss_fn),
        tx=_optimizer(rate, warmup, steps, frozen),
        batches=data.batches(np.arange(len(pairs["first"])), batch_size, make=make, seed=seed),
        steps=steps,
        key=seed,
        mesh=mesh or (train.make_mesh(1) if batch_size % jax.device_count() else None),
        workdir=workdir,
        evaluate=evaluate and (lambda state: evaluate(_trained(encoder, state.params))),
        evaluate_every=evaluate_every,
    )
    return _trained(encoder, state.params, adapters)


def with_adapters(encoder, folder):
    """Reads adapters of low rank from a folder, and adds them to the kernels of an encoder.

    ``encoder = recipes.with_adapters(encoders.pretrained.load("all-MiniLM-L6-v2"), "adapters")``

    Args:
        encoder: of ``encoders.pretrained.load``: the model that the adapters were trained beside.
        folder: that ``fine_tune(adapters=)`` or the package PEFT wrote.

    Returns:
        The encoder with new parameters.

    Raises:
        FileNotFoundError, ValueError: as ``encoders.read_adapters``.
    """
    found, scale = encoders.read_adapters(folder, encoder)
    return dataclasses.replace(encoder, params=weights.low_rank(encoder.params, found, scale))


def _check_options(layers, sizes, head, violators, rank, magnitudes, folder):
    """Refuses, before training, options that exclude each other and a folder that is taken."""
    if layers is not None and (sizes is not None or head or violators):
        raise ValueError("layers: names its own sizes, and has no head; leave sizes, head and violators out")
    if rank is None and (magnitudes or folder is not None):
        raise ValueError("rank: None trains everything; give magnitudes and adapters a rank, such as 8")
    if folder is not None and pathlib.Path(folder).exists() and any(pathlib.Path(folder).iterdir()):
        raise FileExistsError(f"adapters: {str(folder)!r} is not empty; give a new folder")


@functools.lru_cache(maxsize=4)
def _start(encoder, head, rank=None, magnitudes=False):
    """``key -> params`` of an encoder and its head, or ``(adapters and head, params)`` with a rank."""

    def init(key):
        more = {HEAD: encoders.init_mlp(key, (encoder.width, encoder.width))} if head else {}
        params = jax.tree.map(jnp.copy, encoder.params)
        if rank is None:
            return params | more
        options = {"magnitudes": magnitudes}
        return {ADAPTERS: weights.init_low_rank(key, params, KERNELS, rank, **options)} | more, params

    return init


@functools.lru_cache(maxsize=16)
def _adapted(loss_fn):
    """A loss of parameters as one of adapters; what is frozen travels beside them and is no constant."""

    def run(params, batch, key, frozen):
        rest = {name: x for name, x in params.items() if name != ADAPTERS}
        whole = weights.low_rank(frozen, params[ADAPTERS], SCALE) | rest
        loss, metrics = loss_fn(whole, batch, key)
        return loss, (metrics, frozen)

    return run


def _trained(encoder, params, folder=None):
    """The encoder after training: without the head, adapters in a folder and added to their kernels."""
    if folder is not None:
        encoders.write_adapters(folder, encoder, params[ADAPTERS], SCALE)
    if ADAPTERS in params:
        kept = weights.low_rank(encoder.params, params[ADAPTERS], SCALE)
    else:
        kept = {name: x for name, x in params.items() if name != HEAD}
    return dataclasses.replace(encoder, params=kept)


def _trained_by(encoder, head, layers):
    """What the loss encodes with: vectors of texts, with a head or without, or of all blocks."""
    if layers is not None:
        return _layered(encoder.encode_layers)
    return _headed(encoder.encode) if head else encoder.encode


@functools.lru_cache(maxsize=16)
def _headed(encode):
    """An encoder with the head behind it; the same object for the same encoder."""

    def run(params, batch, key=None):
        return encoders.mlp(params[HEAD], encode(params, batch, key), activation=jnp.tanh, final=True)

    return run


@functools.lru_cache(maxsize=16)
def _layered(encode_layers):
    """Vectors of all blocks [B, L+1, D] at the length sqrt(D); the same object for the same encoder."""

    def run(params, batch, key=None):
        found = encode_layers(params, batch, key)
        return unit(found) * found.shape[-1] ** 0.5

    return run


def _reader(encoder, pairs, guide, length, **options):
    """The texts of pairs by name, and what makes batches of them; a guide reads them all first."""
    texts = {name: pairs[name] for name in ("first", "second", "negatives") if pairs.get(name) is not None}
    guides = {} if guide is None else {n: guide.encode_texts(x, progress=True) for n, x in texts.items()}
    options |= {"scores": pairs.get("scores"), "guides": guides}
    return texts, batch_maker(encoder, texts, min(length, encoder.max_length), **options)


def batch_maker(encoder, texts, length, *, scores=None, guides=None, in_batch=None, prompts=None):
    """``rows -> batch``: the tokens of each text, and what tells which pairs count."""
    prompts = prompts or {}

    def make(rows):
        chosen = {name: [x[i] for i in rows] for name, x in texts.items()}
        batch = {n: _tokens(encoder, x, _of(prompts.get(n), rows), length) for n, x in chosen.items()}
        if scores is not None:
            return batch | {"targets": np.asarray(scores, np.float32)[rows]}
        keys = {name: data.hashed(x).astype(np.int32) for name, x in chosen.items()}
        batch |= {"keys": keys, "guides": {name: x[rows] for name, x in (guides or {}).items()}}
        return batch if in_batch is None else batch | {"in_batch": in_batch[rows]}

    return make


def _of(prompts, rows):
    """The prompt of each row: one text or None stands for all of them."""
    return (
        [prompts] * len(rows) if prompts is None or isinstance(prompts, str) else [prompts[i] for i in rows]
    )


def _tokens(encoder, texts, prompts, length):
    """Tokens of texts, each with its prompt; "pool_mask" is there wherever some text may have one."""
    if len(set(prompts)) == 1 and prompts[0] is None:
        return encoder.tokenize(texts, length=length)
    found = None
    for prompt in dict.fromkeys(prompts):
        rows = [i for i, other in enumerate(prompts) if other == prompt]
        part = encoder.tokenize([texts[i] for i in rows], prompt=prompt, length=length)
        part = {"pool_mask": part["mask"]} | part
        if found is None:
            found = {name: np.zeros((len(texts), length), x.dtype) for name, x in part.items()}
        for name, x in part.items():
            found[name][rows] = x
    return found


@functools.lru_cache(maxsize=16)
def objective(encode, names, loss, sizes, temperature, margin, blocks, violators=False, layers=None):
    """The loss of a batch; the same object for the same arguments, so that a second run compiles nothing."""

    def nested(default, key):
        chosen = loss or default
        if layers is not None:
            return functools.partial(layers(chosen), key)
        return chosen if sizes is None else losses.matryoshka(chosen, sizes, [1 / len(sizes)] * len(sizes))

    def loss_fn(params, batch, key):
        keys = jax.random.split(key if layers is None else jax.random.fold_in(key, 1), len(names))
        found = [encode(params, batch[n], k) for n, k in zip(names, keys, strict=True)]
        first, second = found[0], jnp.concatenate(found[1:])
        if "targets" in batch:
            return jnp.mean(nested(losses.cosent, key)(first, second, targets=batch["targets"])), {}
        default = functools.partial(losses.info_nce, temperature=temperature, blocks=blocks)
        where = _counts(batch, names, margin, blocks)
        if violators:
            where &= losses.violator_mask(first, second, blocks=blocks)
        return jnp.mean(nested(default, key)(first, second, where=where)), {}

    return loss_fn


@functools.lru_cache(maxsize=16)
def _optimizer(rate, warmup, steps, frozen):
    """AdamW whose rate rises and falls; the same object for the same arguments."""
    warm = 0 if callable(rate) else round(warmup * steps)
    schedule = rate if callable(rate) else optax.linear_schedule(rate, 0, max(1, steps - warm))
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
    if "in_batch" in batch:
        keys = sides(batch["keys"])
        keep = keep & losses.in_batch_mask(batch["in_batch"], *map(len, keys), blocks)
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


def checked_parts(pairs, in_batch, prompts, violators, clash):
    """The switch of each pair, or None where all are on, and prompts; refuses what does not fit the pairs."""
    count = len(pairs["first"])
    switch = None if in_batch is True else np.broadcast_to(np.asarray(in_batch, bool), count)
    if pairs.get("scores") is not None and (violators or switch is not None):
        raise ValueError("pairs: scores have no negatives; leave violators and in_batch out")
    if clash:
        raise ValueError("rank: adapters leave all other parameters as they are; leave frozen out")
    prompts = dict(prompts or {})
    for name, given in prompts.items():
        if pairs.get(name) is None or name == "scores":
            raise ValueError(f"prompts: {name!r} is not among the texts of the pairs")
        if not isinstance(given, str) and len(given) != count:
            raise ValueError(
                f"prompts[{name!r}]: {len(given)} for {count} pairs; give one text, or one for each"
            )
    return switch, prompts
