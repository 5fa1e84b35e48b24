"""Pictures of identities, encoders that are trained on some of them, and how they verify others."""

from typing import NamedTuple

import jax
import numpy as np

from jaxembed import data, encoders, losses, metrics, train
from jaxembed.arrays import squared_distances, unit

FOLDS, PER_FOLD = 10, 300  # pairs of each kind, as Labeled Faces in the Wild has them
SHOWN = 6  # mined triplets in the picture
RULES = {"semi-hard": "semi_hard", "hardest": "hardest", "violating": "margin_violating", "random": "all"}


class Task(NamedTuple):
    """Pictures, and for each seed the rows that train and the rows that are verified."""

    images: np.ndarray  # float32 [N, H, W, C]
    labels: np.ndarray  # int32 [N]
    known: list  # of int arrays
    asked: list
    shift: int  # most pixels by which a training picture moves
    batch: tuple  # identities and pictures of each


def read(cfg):
    """The pictures of a run; of digits 0 to 5 train, of other sets 7 of 10 identities."""
    if cfg.images is not None or cfg.omniglot is not None:
        found = own(cfg)
    elif cfg.data == "emoji":
        found = data.common_identities(*(data.emoji(style, cfg.side) for style in ("openmoji", "noto")))
    else:
        found = data.digits()
    images, labels = found["images"], found["labels"]
    images = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
    seeds = [np.random.default_rng(seed) for seed in range(cfg.seeds)]
    parts = [split(cfg, labels, rng) for rng in seeds]
    digits = cfg.images is None and cfg.omniglot is None and cfg.data == "digits"
    known, asked = ([np.flatnonzero(np.isin(labels, part[i])) for part in parts] for i in (0, 1))
    sizes = (cfg.identities or (len(parts[0][0]) if digits else 60), cfg.each or (20 if digits else 2))
    return Task(images, labels, known, asked, 0 if digits else 2, sizes)


def own(cfg):
    """A folder with a folder for each identity, or one in the layout of Omniglot."""
    if cfg.omniglot is not None:
        return data.omniglot(cfg.omniglot, cfg.side)
    return data.image_folder(cfg.images, cfg.side)


def split(cfg, labels, rng):
    """Identities that train and identities that are verified; to validate, both come from the first part."""
    names = np.unique(labels)
    if len(names) == 10:
        known, asked = names[:6], names[6:]
    else:
        order = rng.permutation(names)
        known, asked = np.split(order, [max(1, len(order) * 7 // 10)])
    if not cfg.validate:
        return known, asked
    order = rng.permutation(known)
    held = max(2, len(order) // 4)
    return order[held:], order[:held]


class Net(NamedTuple):
    """An encoder as two functions of arrays."""

    init: object
    encode: object


def net(task, hidden, size):
    """A perceptron with one hidden layer for pictures of few pixels; for others it reads a convolutional net.

    The net keeps places apart: its last map, a quarter of the picture's side, is read as one vector.
    """
    height, width, channels = task.images.shape[1:]
    if height * width <= 64:
        sizes, below = (height * width * channels, hidden, size), None
    else:
        stages = [hidden // 16, hidden // 8, hidden // 8]
        below = encoders.convnet(stages, pool=_flat, inputs=channels)
        sizes = (-(-height // 4) * -(-width // 4) * stages[-1], hidden, size)

    def init(key):
        params = encoders.init_mlp(key, sizes)
        return params if below is None else params | {"below": below.init(jax.random.fold_in(key, 9))}

    def encode(params, images):
        x = _flat(images) if below is None else below.encode(params["below"], images)
        return encoders.mlp({name: params[name] for name in ("layer_0", "layer_1")}, x)

    return Net(init, encode)


def _flat(x):
    return x.reshape(len(x), -1)


def batches(task, seed, frozen=None):
    """Identity batches of one seed; ``frozen`` [N, D] adds vectors of the pictures."""
    identities, each = task.batch
    rows = task.known[seed]
    part = {"images": task.images[rows], "labels": task.labels[rows]}
    part |= {} if frozen is None else {"frozen": frozen[rows]}
    return data.identity_batches(part, identities, each, seed=seed, process=0, processes=1)


def make_update(task, loss, tx):
    """The update of ``train.fit`` for ``loss(params, batch, key)``; pictures move at random first."""

    def loss_fn(params, batch, key):
        move, draw = jax.random.split(key)
        moved = encoders.augment(move, batch["images"], shift=task.shift)
        return loss(params, batch | {"images": moved}, draw), {}

    return train.gradient_update(loss_fn, tx)


def fit(task, seed, init, update, steps, frozen=None):
    """Trains the encoder of one seed; every seed of an arm shares one compiled update."""
    run = {"batches": batches(task, seed, frozen), "steps": steps, "mesh": train.make_mesh(1), "key": seed}
    return train.fit(init=init, update=update, **run).params


def mined_loss(encode, rule, margin):
    """The triplet loss of a batch under one rule."""

    def loss(params, batch, key):
        x = encode(params, batch["images"])
        return losses.batch_triplet_loss(x, batch["labels"], rule=rule, margin=margin, key=key)[0]

    return loss


def vectors(task, encode, params):
    """Unit vectors [N, D] of all pictures."""
    return np.asarray(jax.jit(lambda params, images: unit(encode(params, images)))(params, task.images))


def drawn_pairs(same, rng):
    """Numbers of pairs in folds of as many same as different ones, at most 300 of each."""
    most = min(PER_FOLD, same.sum() // FOLDS, (~same).sum() // FOLDS)
    chosen = [rng.permutation(np.flatnonzero(kind))[: most * FOLDS] for kind in (same, ~same)]
    return np.concatenate([x.reshape(FOLDS, most) for x in chosen], axis=1).ravel()


def accuracy(distances, same, far, rng):
    """Accuracy in ten folds of pairs."""
    chosen = drawn_pairs(same, rng)
    found = metrics.kfold_verification(distances[chosen], same[chosen], folds=FOLDS, far=far)
    return found["accuracy"]


def measure(task, found, far):
    """Numbers of the identities that training did not see, one dict for each seed."""
    runs = []
    for seed, (x, rows) in enumerate(zip(found, task.asked, strict=True)):
        x, y = x[rows], task.labels[rows]
        distances, same = metrics.all_pairs(x, y)
        clusters = metrics.agglomerative_scores(x, y)
        runs.append(
            {
                "VAL": metrics.val_at_far(distances, same, far=far)[0],
                "accuracy": accuracy(distances, same, far, np.random.default_rng(seed)),
                "Recall@1": metrics.neighbour_recall(x, y),
                "V-measure": clusters["v_measure"],
                "mean D": float(distances.mean()),
            }
        )
    return runs


def val_between(first, second, labels, far):
    """VAL at FAR between two versions of pictures, a picture with its own other version left out."""
    distances = np.asarray(squared_distances(first, second))
    others = ~np.eye(len(labels), dtype=bool)
    return metrics.val_at_far(distances[others], (labels[:, None] == labels)[others], far=far)[0]


def triplets(task, found, margin):
    """A few anchors and positives of the first seed, and the negative that each rule picks, as pictures."""
    rows = task.asked[0]
    x, y = found[0][rows], task.labels[rows]
    distances, pairs = squared_distances(x, x), losses.label_pairs(y)
    options = {"margin": margin, "where": pairs["where"]}
    picked = {
        name: losses.mine_triplets(distances, pairs["positives"], rule=rule, key=jax.random.key(i), **options)
        for i, (name, rule) in enumerate(RULES.items())
    }
    places = np.argwhere(np.asarray(picked["semi-hard"][1]))
    places = places[np.random.default_rng(0).permutation(len(places))[:SHOWN]]
    shown = []
    for a, p in places:
        columns = {"anchor": a, "positive": p} | {r: int(index[a, p]) for r, (index, _) in picked.items()}
        pictures = {name: np.uint8(255 * task.images[rows[i]]) for name, i in columns.items()}
        cells = {name: picture.tobytes().hex() for name, picture in pictures.items()}
        near = {name: round(float(distances[a, i]), 3) for name, i in columns.items()}
        shown.append({"shape": list(task.images.shape[1:]), "pictures": cells, "distances": near})
    return shown
