"""A second version of an encoder whose vectors match those of the first: harmonic embeddings."""

import functools

import jax
import optax

from experiments.face_metric import identities
from jaxembed import losses, train

LAST = "layer_1"  # the embedding layer
REST = rf"^(?!{LAST})"  # all paths but those that begin with it


def renewed(net, params):
    """Parameters with an embedding layer drawn anew."""
    fresh = net.init(jax.random.key(99))
    return {name: fresh[name] if name == LAST else part for name, part in params.items()}


def harmonic(cfg, task, net, starts, frozen):
    """Trains the embedding layer of a second version, then all of it, against frozen vectors."""

    def loss(params, batch, key):
        new = net.encode(params, batch["images"])
        return losses.cross_version_triplet_loss(new, batch["frozen"], batch["labels"], margin=cfg.margin)[0]

    updates = [
        identities.make_update(task, loss, tx)
        for tx in (train.frozen(optax.adagrad(cfg.rate), REST), optax.adagrad(cfg.rate))
    ]
    found = []
    for seed, (params, old) in enumerate(zip(starts, frozen, strict=True)):
        params = renewed(net, params)
        for update in updates:
            init = functools.partial(lambda key, params: params, params=params)
            params = identities.fit(task, seed, init, update, -(-cfg.steps // 2), old)
        found.append(params)
    return found


def compare(cfg, task, far):
    """Rows: VAL of old with old vectors, old with new, new with new, and of independent versions."""
    small, large = (identities.net(task, hidden, cfg.size) for hidden in (cfg.hidden // 4, cfg.hidden))
    made = {}
    for name, net in (("v1", small), ("v2 alone", large)):
        loss = identities.mined_loss(net.encode, "semi_hard", cfg.margin)
        update = identities.make_update(task, loss, optax.adagrad(cfg.rate))
        made[name] = [identities.fit(task, s, net.init, update, cfg.steps) for s in range(cfg.seeds)]
    first, alone = (
        [identities.vectors(task, net.encode, params) for params in made[name]]
        for net, name in ((small, "v1"), (large, "v2 alone"))
    )
    second = [
        identities.vectors(task, large.encode, params)
        for params in harmonic(cfg, task, large, made["v2 alone"], first)
    ]
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
