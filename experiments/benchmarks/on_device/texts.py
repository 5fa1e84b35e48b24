"""Cases of a text encoder with drawn weights: encoding, training steps, and the loop around a step."""

import functools
import json
import pathlib
import statistics
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import text, timing
from experiments.benchmarks.on_device import peers
from experiments.benchmarks.on_device.cases import COMPILED, EAGER, OURS, Case, late
from jaxembed import encoders, losses, train

FORMS = {
    "MiniLM": {"layers": 6, "width": 384, "heads": 12, "hidden": 1536, "vocabulary": 30_522},
    "BERT-base": {"layers": 12, "width": 768, "heads": 12, "hidden": 3072, "vocabulary": 30_522},
    "toy": {"layers": 2, "width": 32, "heads": 2, "hidden": 64, "vocabulary": 1000},
}
LOW = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}


@functools.cache
def draw(name):
    """The tensors of a BERT of some size under their published names, normal with deviation 0.05."""
    form, rng = FORMS[name], np.random.default_rng(0)
    width, hidden = form["width"], form["hidden"]
    shapes = {"word_embeddings": form["vocabulary"], "position_embeddings": 512, "token_type_embeddings": 2}
    shapes = {f"embeddings.{n}.weight": (rows, width) for n, rows in shapes.items()}
    layers = [("embeddings.LayerNorm", ())]
    for n in range(form["layers"]):
        base = f"encoder.layer.{n}."
        layers += [(f"{base}attention.self.{x}", (width, width)) for x in ("query", "key", "value")]
        layers += [(f"{base}attention.output.dense", (width, width))]
        layers += [(f"{base}output.dense", (width, hidden)), (f"{base}intermediate.dense", (hidden, width))]
        layers += [(f"{base}{x}.LayerNorm", ()) for x in ("attention.output", "output")]
    found = {n: rng.standard_normal(s, np.float32) * np.float32(0.05) for n, s in shapes.items()}
    for layer, shape in layers:
        drawn = rng.standard_normal(shape, np.float32) * np.float32(0.05) if shape else None
        found[f"{layer}.weight"] = np.ones(width, np.float32) if drawn is None else drawn
        found[f"{layer}.bias"] = np.zeros(shape[0] if shape else width, np.float32)
    return found


def load(name, **options):
    """The drawn encoder, written and read as a published one is; ``options`` are those of the loader."""
    from tokenizers import Tokenizer, models

    from jaxembed.encoders.pretrained import tensors

    form = FORMS[name]
    config = {"model_type": "bert", "vocab_size": form["vocabulary"], "hidden_size": form["width"]}
    config |= {"num_hidden_layers": form["layers"], "num_attention_heads": form["heads"]}
    config |= {"intermediate_size": form["hidden"], "hidden_act": "gelu", "type_vocab_size": 2}
    config |= {"max_position_embeddings": 512, "layer_norm_eps": 1e-12}
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    files = {"config.json": config, "modules.json": listed}
    files["1_Pooling/config.json"] = {"pooling_mode_mean_tokens": True}
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        (folder / "1_Pooling").mkdir()
        for path, value in files.items():
            (folder / path).write_text(json.dumps(value))
        Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
        tensors.write_safetensors(folder / "model.safetensors", draw(name))
        return encoders.pretrained.load(folder, **options)


def batch_of(name, rows, length):
    """Random ids int32 [rows, length], of which each text has three quarters or more."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, FORMS[name]["vocabulary"], (rows, length)).astype(np.int32)
    lengths = rng.integers(-(-3 * length // 4), length + 1, rows)
    return {"ids": ids, "mask": np.arange(length) < lengths[:, None]}


def operations(name, rows, length):
    """Operations of the products of one pass over [rows, length], padding included."""
    form = FORMS[name]
    width = form["width"]
    token = 2 * (4 * width**2 + 2 * width * form["hidden"]) + 4 * length * width
    return rows * length * form["layers"] * token


def encoding(cfg, card, peer, names):
    """Texts per second at every length, in float32 and bfloat16."""
    both = 1 if peer is None else 2
    for name in names:
        form, weights = FORMS[name], sum(x.size for x in draw(name).values())
        for unit in ("bfloat16", "tf32"):
            low, each = unit == "bfloat16", 2 if unit == "bfloat16" else 4
            encoder = functools.cache(lambda name=name, low=low: load(name, **(LOW if low else {})))
            for length in cfg.tokens:
                kept = length * (each * (6 * form["width"] + 2 * form["hidden"]) + 8 * form["heads"] * length)

                def needed(n, kept=kept, each=each, weights=weights):
                    return both * (each * weights + n * kept)

                rows, note = card.fitting(max(1, cfg.batch // length), needed, "texts")
                read = each * weights + 5 * rows * length + 4 * rows * form["width"]
                task = f"encode, {name} in {'bfloat16' if low else 'float32'}"
                where = "encoding", task, f"{length} tokens", "texts", rows, unit
                made = functools.partial(_encoders, encoder, name, low, rows, length, peer)
                bound = 5e-2 if low else 5e-3
                yield Case(*where, operations(name, rows, length), read, made, bound, note)


def _encoders(encoder, name, low, rows, length, peer):
    encoder, batch = encoder(), jax.device_put(batch_of(name, rows, length))
    calls = {OURS: lambda: encoder.encode(encoder.params, batch)}
    if peer is None:
        return calls
    torch, (ids, mask) = peer.torch, peer.share(*batch.values())

    ids = ids.long()

    def encode(model):
        with torch.inference_mode():
            return model(ids, mask)

    def made(arm):
        model = peers.bert(torch, draw(name), FORMS[name], peer.device, arm == COMPILED)
        return functools.partial(encode, model.to(torch.bfloat16) if low else model)

    return calls | {arm: late(functools.partial(made, arm)) for arm in (EAGER, COMPILED)}


def training(cfg, card, peer, names):
    """Training steps on pairs in bfloat16: in-batch negatives, five matryoshka sizes, cached gradients."""
    name, length = names[0], cfg.length
    form = FORMS[name]
    kept = form["layers"] * 2 * (6 * form["width"] + 2 * form["hidden"])  # bytes of a token's activations
    sizes = [form["width"] >> n for n in range(5)]
    loss = functools.partial(losses.info_nce, temperature=0.05)
    encoder = functools.cache(lambda: load(name, dtype=jnp.bfloat16))
    for what, widths, chunks in (
        ("info_nce", sizes[:1], 1),
        ("matryoshka x5", sizes, 1),
        (f"cached in {cfg.chunks} chunks", sizes[:1], cfg.chunks),
    ):

        def needed(pairs, chunks=chunks, widths=widths):
            both = 1 if peer is None else 2
            return both * (2 * pairs * length * kept / chunks + 16 * pairs**2 * len(widths))

        pairs, note = card.fitting(cfg.train_pairs, needed, "pairs")
        trained = loss if len(widths) == 1 else losses.matryoshka(loss, widths)
        made = functools.partial(_steps, encoder, name, trained, widths, chunks, pairs, length, peer)
        rows = 2 * pairs
        flops = 3 * operations(name, rows, length) + 6 * sum(widths) * pairs**2
        read = 4 * 6 * sum(x.size for x in draw(name).values())  # weights and two moments, read and written
        where = f"training step, {what}, {name}", f"{pairs:,} pairs of {length} tokens", "texts", rows
        yield Case("training", *where, "bfloat16", flops, read, made, None, note)


def _steps(encoder, name, loss, widths, chunks, pairs, length, peer):
    batch = jax.device_put(batch_of(name, 2 * pairs, length))
    compiled, state = text.compiled_step(encoder(), text.update_of(encoder(), loss, False, chunks), batch)
    calls = {OURS: text.stepper(compiled, state, batch)}
    if peer is None:
        return calls
    ids, mask = peer.share(*batch.values())

    def made(arm):
        model = peers.bert(peer.torch, draw(name), FORMS[name], peer.device, arm == COMPILED)
        return peers.trainer(peer.torch, model, ids.long(), mask, widths, chunks)

    return calls | {arm: late(functools.partial(made, arm)) for arm in (EAGER, COMPILED)}


def looping(cfg, card, peer, names):
    """Seconds of a step inside ``fit``, which writes logs and a checkpoint, and of the step alone."""
    name, length, pairs = names[0], cfg.length, cfg.looped
    every, steps = 10, cfg.steps
    loss = functools.partial(losses.info_nce, temperature=0.05)

    def seconds():
        encoder = load(name, dtype=jnp.bfloat16).first(2)
        batch, update = batch_of(name, 2 * pairs, length), text.update_of(encoder, loss, False)
        placed = jax.device_put(batch)
        alone = text.stepper(*text.compiled_step(encoder, update, placed), placed)
        with tempfile.TemporaryDirectory() as folder:
            options = {"mesh": train.make_mesh(1), "log_every": every, "workdir": folder, "progress": False}
            start = jax.tree.map(jnp.copy, encoder.params)
            train.fit(init=lambda key: start, update=update, batches=[batch] * steps, steps=steps, **options)
            logged = [row["seconds_per_step"] for row in train.read_metrics(folder)[1:]]
        bare = timing.queued({"step": (alone, jax.block_until_ready)}, cfg.rounds, cfg.turn)["step"]
        return {"jaxembed, fit": statistics.median(logged), "jaxembed, step alone": bare}

    form = FORMS[name] | {"layers": 2}
    flops = 3 * operations(name, 2 * pairs, length) * 2 / FORMS[name]["layers"]
    read = 4 * 6 * (form["vocabulary"] + 512 + 2 * (4 * form["width"] + 2 * form["hidden"])) * form["width"]
    where = f"loop of fit, two blocks of {name}", f"{pairs:,} pairs of {length} tokens", "steps", 1
    note = f"a log row every {every} steps"
    yield Case("fit", *where, "bfloat16", flops, read, None, None, note, seconds)
