"""A second version of an encoder whose vectors match those of the first: harmonic embeddings."""

import functools

import jax
import optax

from experiments.face_metric import identities
from jaxembed import losses, train

LAST = ("layer_1", "dense")  # the embedding layer of a perceptron, of a convolutional net
REST = rf"^(?!.*({'|'.join(LAST)}))"


def renewed(task, net, params):
    """Parameters of every seed with an embedding layer drawn anew."""
    fresh = jax.vmap(net.init)(jax.random.split(jax.random.key(99), len(task.known)))

    def choose(path, old, new):
        return new if path[0].key in LAST else old

    return jax.tree.map_with_path(choose, params, fresh)


def harmonic(cfg, task, net, start, frozen):
    """Trains the embedding layer of a second version, then all of it, against frozen vectors [S][N, D]."""

    def loss(params, batch, key):
        new = net.encode(params, batch["images"])
        return losses.cross_version_triplet_loss(new, batch["frozen"], batch["labels"], margin=cfg.margin)[0]

    params = renewed(task, net, start)
    for tx in (train.frozen(optax.adagrad(cfg.rate), REST), optax.adagrad(cfg.rate)):
        params = identities.fit(task, params, loss, tx, -(-cfg.steps // 2), frozen)
    return params


def compare(cfg, task, far):
    """Rows: VAL of old with old vectors, old with new, new with new, and of independent versions."""
    small, large = (identities.net(task, hidden, cfg.size) for hidden in (cfg.hidden // 4, cfg.hidden))
    made = {}
    for name, net in (("v1", small), ("v2 alone", large)):
        loss = identities.mined_loss(net.encode, "semi_hard", cfg.margin)
        made[name] = identities.fit(task, net.init, loss, optax.adagrad(cfg.rate), cfg.steps)
    encode = functools.partial(identities.vectors, task)
    first, alone = encode(small.encode, made["v1"]), encode(large.encode, made["v2 alone"])
    second = encode(large.encode, harmonic(cfg, task, large, made["v2 alone"], first))
    sides = {"v1, v1": (first, first), "v1, v2": (first, second), "v2, v2": (second, second)}
    sides |= {"v1, v2 trained alone": (first, alone), "v2 trained alone, itself": (alone, alone)}
    rows = []
    for name, (one, other) in sides.items():
        runs = [
            identities.val_between(x[kept], y[kept], task.labels[kept], far)
            for x, y, kept in zip(one, other, task.asked, strict=True)
        ]
        rows.append({"versions": name, "runs": runs})
    return rows
