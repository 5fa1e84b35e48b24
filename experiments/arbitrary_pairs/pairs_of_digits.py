"""Digits, encoders trained with or without gates for several seeds side by side, and their measures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxembed import data, encoders, losses, metrics, train
from jaxembed.arrays import unit

TRAIN = 1437  # of the 1,797 digits
WIDTHS = {"backbone": (64, 256, 64), "projector": (64, 128, 32)}


def read(seeds, validate=False):
    """The digits in an order of its own for each seed: the first 1,437 train, 360 test.

    With ``validate`` the 360 come from the first 1,437, so that the test digits stay unread.

    Returns:
        images float32 [N, S, 64] in 0..1, labels int32 [N, S], and how many of them train.
    """
    known = data.digits()
    orders = np.stack([np.random.default_rng(s).permutation(1797) for s in range(seeds)], axis=1)
    orders, count = (orders[:TRAIN], TRAIN - 360) if validate else (orders, TRAIN)
    return known["images"].reshape(-1, 64)[orders], known["labels"][orders], count


def init(key, classes):
    """Backbone, projector, gate and class head of one encoder."""
    keys = jax.random.split(key, 4)
    params = {
        name: encoders.init_mlp(k, sizes) for (name, sizes), k in zip(WIDTHS.items(), keys, strict=False)
    }
    params["gate"] = encoders.init_pair_gate(keys[2], classes, WIDTHS["projector"][-1], inputs=64, hidden=128)
    return params | {"head": encoders.init_mlp(keys[3], (WIDTHS["backbone"][-1], classes))}


def encode(params, images):
    """(h, z): backbone states [B, 64] and projections [B, 32] that a layer norm without parameters ends."""
    h = encoders.mlp(params["backbone"], images, final=True)
    z = encoders.mlp(params["projector"], h)
    return h, jax.nn.standardize(z, axis=-1, epsilon=1e-5)


def views(key, images, noise):
    """Two noisy copies of digits that moved by at most one pixel."""
    change = functools.partial(encoders.augment, shift=1, noise=noise)
    square = images.reshape(-1, 8, 8, 1)
    return [change(k, square).reshape(images.shape) for k in jax.random.split(key)]


def make_loss(arm, cfg, classes):
    """The loss of one encoder: (params, images, labels, key, momentum params or None) -> scalar."""

    def loss(params, images, labels, key, momentum):
        view_key, partner_key = jax.random.split(key)
        first, second = views(view_key, images, cfg.noise)
        h, z = encode(params, first)
        if arm.mode is None:
            scores = encoders.mlp(params["head"], h)
            return jnp.mean(losses.softmax_loss(scores, positives=labels))
        partners = losses.sample_partners(partner_key, labels, classes, mode=arm.mode)
        gate = encoders.pair_gate(params["gate"], labels, partners) if arm.gate else jnp.ones_like(z)
        named = {"labels": labels, "partners": partners, "temperature": cfg.temperature}
        if momentum is None:
            return losses.arbitrary_pair_loss(z, z, gate, **named)
        keys = encode(momentum, second)[1]
        pairs = losses.arbitrary_pair_loss(z, keys, gate, key_labels=labels, **named)
        return (jnp.mean(losses.info_nce(z, keys, temperature=cfg.temperature)) + pairs) / 2

    return loss


def fit(arm, cfg, images, labels, count, classes):
    """Trains one encoder for each seed, side by side; returns their params, stacked."""
    seeds, one = images.shape[1], make_loss(arm, cfg, classes)

    def start(key):
        return jax.vmap(functools.partial(init, classes=classes))(jax.random.split(key, seeds))

    def loss_fn(params, batch, key):
        keys, momentum = jax.random.split(key, seeds), batch.get("momentum")
        axes = (0, 1, 1, 0, None if momentum is None else 0)
        return jnp.sum(jax.vmap(one, in_axes=axes)(params, batch["x"], batch["y"], keys, momentum)), {}

    update = train.gradient_update(loss_fn, optax.adam(cfg.learning_rate))
    if arm.momentum:
        update = train.ema(update, cfg.momentum, into="momentum")
    size = min(cfg.batch_size, count)
    rows = data.batches(np.arange(count), size, make=lambda r: {"x": images[r], "y": labels[r]})
    steps = cfg.epochs * (count // size)
    return train.fit(init=start, update=update, batches=rows, steps=steps, mesh=train.make_mesh(1)).params


@jax.jit
def encoded(params, images):
    """h [N, S, 64] and z [N, S, 32] of images [N, S, 64]."""
    return jax.vmap(encode, in_axes=(0, 1), out_axes=1)(params, images)


def probe(known, labels, asked, truth):
    """Accuracy of a logistic regression on frozen states."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(known)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(known), labels)
    return float(model.score(scaler.transform(asked), truth))


def pair_auc(z, labels, gate):
    """AUC of partner classes against third classes, by the gated cosine; the mean over pairs of classes.

    Args:
        z: [N, K].
        labels: [N].
        gate: (first, second: int [n]) -> [n, K].
    """
    found = []
    for a, b in zip(*np.triu_indices(labels.max() + 1, 1), strict=True):
        anchors, others = z[labels == a], labels != a
        gates = np.broadcast_to(gate(np.array([a]), np.array([b])), anchors.shape)
        scores = np.asarray(losses.gated_cosine(anchors, z[others], gates))
        wanted = np.broadcast_to(labels[others] == b, scores.shape)
        found.append(metrics.auc(wanted.ravel(), scores.ravel()))
    return float(np.mean(found))


def gate_of(arm, params):
    """The gate of pairs of one encoder, ones where an arm has none."""
    if not arm.gate:
        return lambda first, second: np.ones((len(first), WIDTHS["projector"][-1]), np.float32)
    return jax.jit(functools.partial(encoders.pair_gate, params["gate"]))


def measure(arm, params, images, labels, count):
    """One dict of numbers for each seed."""
    states, runs = [np.asarray(x) for x in encoded(params, images)], []
    for s in range(images.shape[1]):
        (h, z), y = (x[:, s] for x in states), labels[:, s]
        one = jax.tree.map(lambda x, s=s: x[s], params)
        near = np.asarray(unit(h))
        runs.append(
            {
                "probe": probe(h[:count], y[:count], h[count:], y[count:]),
                "5-NN": metrics.nearest_accuracy(near[:count], y[:count], near[count:], y[count:], k=5),
                "rank of h": float(metrics.effective_rank(h[count:])),
                "rank of z": float(metrics.effective_rank(z[count:])),
                "pair AUC": pair_auc(z[count:], y[count:], gate_of(arm, one)),
                "spectrum": np.asarray(metrics.covariance_spectrum(z[count:])).round(6).tolist(),
            }
        )
    return runs


def transferred(params, images, labels, count):
    """Accuracy of a probe on classes that training did not see, for each seed."""
    h, found = np.asarray(encoded(params, images)[0]), []
    for s in range(images.shape[1]):
        y, place = labels[:, s], np.arange(len(labels))
        known, asked = ((y >= SEEN) & part for part in (place < count, place >= count))
        found.append(probe(h[known, s], y[known], h[asked, s], y[asked]))
    return found


SEEN = 7  # classes 0 to 6 train where transfer is asked


def only_seen(images, labels, count):
    """The training digits of the classes that transfer trains on, as many for every seed."""
    kept = [np.flatnonzero(labels[:count, s] < SEEN) for s in range(labels.shape[1])]
    least = min(map(len, kept))
    rows = np.stack([k[:least] for k in kept], axis=1)
    return np.take_along_axis(images, rows[..., None], axis=0), np.take_along_axis(labels, rows, axis=0)
