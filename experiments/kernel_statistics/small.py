"""Small nets of several widths, trained on digits and on pieces of photographs, and how they differ."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import results
from jaxembed import data, encoders, losses, train, weights

TWO, TASKS, START = "two nets trained on digits", "digits and photographs", "a trained net and its start"
LAYERS = ("first", "second", "last")
TEST = 400  # digits
PIECES = 2000  # of photographs
DRIFTING = 32  # width of the nets whose drift is measured, or the nearest there is


def digits(seed):
    """Pictures and labels, (train, test), split by the seed."""
    found = data.digits()
    order = np.random.default_rng((seed, 7)).permutation(len(found["labels"]))
    held, kept = order[:TEST], order[TEST:]
    return tuple({n: found[n][rows] for n in ("images", "labels")} for rows in (kept, held))


@functools.cache
def photographs():
    """Two grey photographs that scikit-learn carries, of 0 to 1."""
    places = (data.package_file("sklearn", f"datasets/images/{name}.jpg") for name in ("china", "flower"))
    return [data.read_image(place, channels=1).astype(np.float32) / 255 for place in places]


def pieces(seed):
    """Squares of 8 x 8 out of two photographs; the label is the photograph."""
    keys = jax.random.split(jax.random.key(seed), 2)
    cut = [
        weights.draw_patches(key, photograph[None], 8, PIECES // 2)
        for key, photograph in zip(keys, photographs(), strict=True)
    ]
    images = np.concatenate([np.asarray(x).reshape(-1, 8, 8, 1) for x in cut])
    return {"images": images, "labels": np.repeat(np.arange(2, dtype=np.int32), PIECES // 2)}


@functools.cache
def net_of(width):
    return encoders.convnet([width] * 3, norm=None, width=10, inputs=1)


@functools.cache
def update_of(width, rate, decay):
    net = net_of(width)

    def loss_fn(params, batch, key):
        logits = net.encode(params, batch["images"])
        return jnp.mean(losses.softmax_loss(logits, positives=batch["labels"])), {}

    return train.gradient_update(loss_fn, optax.adamw(rate, weight_decay=decay))


def fitted(cfg, width, seed, part):
    """Parameters before and after training."""
    net = net_of(width)
    batches = data.batches(part, cfg.batch_size, seed=seed, process=0, processes=1)
    given = {"update": update_of(width, cfg.rate, cfg.decay), "mesh": train.make_mesh(1), "key": seed}
    start, end = (
        train.fit(init=net.init, batches=batches, steps=steps, **given).params for steps in (0, cfg.steps)
    )
    return start, end


def train_all(cfg):
    """{(task, width, seed): (start, end, accuracy on held-out digits or None)}."""
    found = {}
    for seed in range(cfg.seeds):
        known, held = digits(seed)
        for width in cfg.widths:
            start, end = fitted(cfg, width, seed, known)
            guesses = np.argmax(net_of(width).encode(end, held["images"]), axis=1)
            found["digits", width, seed] = start, end, float(np.mean(guesses == held["labels"]))
        width = drifting(cfg)
        found["photographs", width, seed] = *fitted(cfg, width, seed, pieces(seed)), None
    return found


def drifting(cfg):
    return min(cfg.widths, key=lambda width: abs(width - DRIFTING))


def by_width(cfg, nets):
    """A row for each width and layer: quality before and after training, over seeds."""
    rows = []
    for width in cfg.widths:
        runs = [nets["digits", width, seed] for seed in range(cfg.seeds)]
        before, after = ([list(weights.model_quality(r[i]).values()) for r in runs] for i in (0, 1))
        for i, layer in enumerate(LAYERS):
            numbers = {
                name: [q[i][name] for q in after] for name in ("to random", "sparsity", "orthogonality")
            }
            row = {"width": width, "layer": layer, "kernels": after[0][i]["kernels"]}
            row["to random at the start"] = float(np.mean([q[i]["to random"] for q in before]))
            for name, values in numbers.items():
                row[name], row[f"± {name}"] = results.spread(values)
            row["accuracy"] = float(np.mean([r[2] for r in runs]))
            rows.append(row | {"runs": numbers})
    return rows


def rows_of(params):
    """All kernels of 3 x 3 of a network as rows."""
    return np.concatenate([np.asarray(weights.kernel_rows(w)) for w in weights.kernels(params, 3).values()])


def drift(cfg, nets):
    """Weighted symmetric KL of pairs of populations, for every seed."""
    width, runs = drifting(cfg), {TWO: [], TASKS: [], START: []}
    for seed in range(cfg.seeds):
        start, end, _ = nets["digits", width, seed]
        other = (seed + 1) % cfg.seeds if cfg.seeds > 1 else seed
        groups = {"end": end, "start": start, "other": nets["digits", width, other][1]}
        groups["photographs"] = nets["photographs", width, seed][1]
        matrix = weights.drift_matrix({name: rows_of(params) for name, params in groups.items()})
        for name, column in ((START, 1), (TWO, 2), (TASKS, 3)):
            runs[name].append(float(matrix[0, column]))
    rows = []
    for name, values in runs.items():
        mean, deviation = results.spread(values)
        rows.append({"between": name, "divergence": mean, "± divergence": deviation, "runs": values})
    return rows


def populations(cfg, nets):
    """Small nets of the first seed by name, for the matrix and the picture."""
    width = drifting(cfg)
    start, end, _ = nets["digits", width, 0]
    return {"digits": end, "photographs": nets["photographs", width, 0][1], "random": start}
