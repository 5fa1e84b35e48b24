"""Pools of pairs of which it is known which ones belong together: latent factors, styled digits, pictures."""

import jax
import numpy as np

from experiments.data_mixtures import digits as drawn
from experiments.shared import flags, text_models
from jaxembed import data, encoders, files, vectors

CLASSES, INSTANCE, PLAIN, VIEW = 10, 20, 6, 64  # of latents: classes and their width, and the other factors
CAPTIONS = "a picture of {}"


def latents(cfg, seed):
    """Pairs of views of 36 latent factors.

    A good pair shares class and instance. A bad pair has those of another one, but shares the boilerplate, as
    file names do that stand in the place of captions.
    """
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(CLASSES, CLASSES))
    turns = rng.normal(size=(2, CLASSES + INSTANCE + PLAIN, VIEW)) / 6

    def view(latent, side, noise=0.5):
        return (latent @ turns[side] + noise * rng.normal(size=(len(latent), VIEW))).astype(np.float32)

    def pairs(count, bad, template=False):
        labels = rng.integers(CLASSES, size=count)
        meant = np.concatenate([means[labels], rng.normal(size=(count, INSTANCE))], axis=1)
        plain, other = rng.normal(size=(2, count, PLAIN))
        good = rng.permutation(count) >= round(bad * count)
        said = np.where(good[:, None], meant, np.roll(meant, 1, axis=0))
        said = np.concatenate([said, np.where(good[:, None], other, plain)], axis=1)
        if template:
            said = np.concatenate([means[labels], np.zeros((count, INSTANCE + PLAIN))], axis=1)
        found = {"first": view(np.concatenate([meant, plain], axis=1), 0), "second": view(said, 1)}
        return found | {"good": good, "labels": labels}

    words = np.concatenate([means, np.zeros((CLASSES, INSTANCE + PLAIN))], axis=1)
    filters = {"templates": pairs(cfg.pool, 0, template=True), "clean": pairs(cfg.clean, 0)}
    filters |= {f"{bad:.0%} bad": pairs(cfg.filter_pairs, bad) for bad in cfg.bad}
    test, pool = pairs(1000, 0), pairs(cfg.pool, cfg.pool_bad)
    return {"pool": pool, "filters": filters, "test": test, "classes": view(words, 1, noise=0)}


def digits(cfg, seed):
    """Digits in six styles whose captions name digit and style; a bad pair has the caption of another one."""
    rng = np.random.default_rng(seed)
    images, labels = drawn.digits()
    order = rng.permutation(len(images))
    test, known = order[:400], order[400:]

    def pairs(rows, bad=0.0, template=False):
        styles = rng.integers(len(drawn.STYLES), size=len(rows))
        shown = np.zeros((len(rows), 8, 8), np.float32)
        for n, style in enumerate(drawn.STYLES):
            own = styles == n
            shown[own] = drawn.styled(images[rows[own]], style, rng)
        good = rng.permutation(len(rows)) >= round(bad * len(rows))
        said = np.where(good, np.arange(len(rows)), rng.permutation(len(rows)))
        text = drawn.caption(labels[rows[said]], None if template else styles[said])
        good = (labels[rows[said]] == labels[rows]) & (styles[said] == styles)
        found = {"first": shown, "second": text, "good": good, "labels": labels[rows]}
        return found | {"place": labels[rows] * len(drawn.STYLES) + styles}

    def some(count):
        return rng.choice(known, count)

    filters = {"templates": pairs(some(cfg.filter_pairs), template=True), "clean": pairs(some(cfg.clean))}
    filters |= {f"{bad:.0%} bad": pairs(some(cfg.filter_pairs), bad) for bad in cfg.bad}
    every = np.divmod(np.arange(len(drawn.WORDS) * len(drawn.STYLES)), len(drawn.STYLES))
    return {
        "pool": pairs(some(cfg.pool), cfg.pool_bad),
        "filters": filters,
        "test": pairs(np.repeat(test, 2)),
        "captions": drawn.caption(*every),
        "classes": drawn.caption(np.arange(10)),
    }


def read_pictures(workdir):
    """Vectors of all pictures and captions of this machine, kept in a file, and words of categories.

    Pictures are brought to their first 256 principal axes, which needs no captions.
    """
    path = workdir / "pictures.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = embedded()
        with files.written(path) as file:
            np.savez(file, **found)
    with files.reading(path, "delete it and run again"), np.load(path, allow_pickle=False) as found:
        read = {name: found[name] for name in ("first", "second", "labels", "source", "words")}
    first = read["first"] - read["first"].mean(axis=0)
    return read | {"first": first @ np.linalg.eigh(first.T @ first)[1][:, -256:]}


def embedded():
    """The vectors of published models, and the categories of Open Clip Art."""
    flags.stage("reads openclipart, stamps and emoji")
    net, model = encoders.mobilenet_v2(), text_models.load(None)
    sets = {"openclipart": data.openclipart(96), "stamps": data.stamps(96)}
    sets |= {"openmoji": data.emoji("openmoji", 96), "noto": data.emoji("noto", 96)}
    run = jax.jit(lambda x: net.encode(net.params, x))
    parts = []
    for name, found in sets.items():
        count = len(found["images"])
        flags.stage(f"a net and an encoder read {count} pairs of {name}")
        blank = np.zeros((-count % 64, 96, 96, 3), np.uint8)
        images = np.concatenate([found["images"], blank])
        first = [np.asarray(run(images[n : n + 64])) for n in range(0, len(images), 64)]
        parts.append((np.concatenate(first)[:count], model.encode_texts(found["texts"])))
    labels = np.concatenate([sets["openclipart"]["labels"], *(np.full(len(p[0]), -1) for p in parts[1:])])
    names = [CAPTIONS.format(n.replace("_", " ")) for n in sets["openclipart"]["names"]]
    source = np.repeat(np.arange(len(parts)), [len(p[0]) for p in parts])
    first, second = (np.concatenate([p[i] for p in parts]) for i in range(2))
    rest = {"labels": labels, "source": source, "words": model.encode_texts(names)}
    return {"first": first, "second": second, **rest}


def pictures(cfg, seed, read):
    """Real pairs, the vectors of published models; a bad pair has another caption of the same source."""
    rng = np.random.default_rng(seed)
    count = len(read["first"])
    order = rng.permutation(count)
    test, clean, known, pool = np.split(order, np.cumsum([1000, cfg.clean, cfg.filter_pairs]))

    def pairs(rows, bad=0.0):
        said, sick = rows.copy(), rng.permutation(len(rows)) < round(bad * len(rows))
        for source in range(read["source"].max() + 1):
            own = np.flatnonzero(sick & (read["source"][rows] == source))
            said[own] = rows[np.roll(own, 1)]
        found = {"first": read["first"][rows], "second": read["second"][said], "good": said == rows}
        return found | {"labels": read["labels"][rows]}

    named = known[read["labels"][known] >= 0]
    template = pairs(named) | {"second": read["words"][read["labels"][named]]}
    filters = {"templates": template, "clean": pairs(clean)}
    filters |= {f"{bad:.0%} bad": pairs(known, bad) for bad in cfg.bad}
    return {
        "pool": pairs(pool, cfg.pool_bad),
        "filters": filters,
        "test": pairs(test),
        "classes": read["words"],
    }


def linear_towers(first, second, size, ridge):
    """Linear CLIP in closed form: directions of canonical correlation, scaled by the root of it.

    Returns:
        The functions of the two towers.
    """
    size = min(size, first.shape[1], second.shape[1], len(first) - 1)
    found = vectors.canonical(first, second, size=size, ridge=ridge)
    scale = np.sqrt(np.maximum(np.asarray(found["values"]), 1e-6))

    def tower(side):
        mean, kernel = (np.asarray(found[side][name]) for name in ("mean", "kernel"))
        return lambda x: (x - mean) @ (kernel * scale)

    return tower("x"), tower("y")


def learned_towers(cfg, first, second, seed):
    """Towers that learn by CLIP's loss: the functions, and their params."""
    params = drawn.trained(first, second, seed, steps=cfg.steps)
    return functions(params), params


def functions(params):
    """The towers of params as functions of NumPy arrays."""
    return tuple(lambda x, side=side: np.asarray(drawn.encode(params, side, x)) for side in ("image", "text"))
