"""The arms: which pieces of the pool are kept, and what a model trained on them needs for held-out Python."""

import jax
import numpy as np

from experiments.language_selection import byte_models as transformers
from experiments.language_selection import published
from experiments.language_selection.machine_text import draw, world
from experiments.shared import flags
from jaxembed import data

RANDOM, WHOLE, COLOR, BATCHWISE = "random", "whole pool", "CoLoR-Filter", "CoLoR-Filter, batch by batch"
CONDITIONAL, MOORE, RHO = "conditional only", "Moore-Lewis", "RHO"
WIDE, COUNTED = "4 times as wide: ", "CoLoR-Filter with counts"
BATCHES = 16  # of the pool, where each gives its share


def kept_rows(scores, tau, seed, names=(COLOR, BATCHWISE, CONDITIONAL, MOORE)):
    """{arm: rows of the pool} for a tau; ``scores`` {arm: [N]} where higher is better."""
    pool = len(next(iter(scores.values())))
    keep = pool // tau
    kept = {RANDOM: np.sort(np.random.default_rng(seed).permutation(pool)[:keep])}
    for arm in names:
        if arm == BATCHWISE:
            size = -(-pool // BATCHES)
            kept[arm] = data.select(scores[COLOR], keep, mode="batchwise", batch_size=size)
        elif arm in scores:
            kept[arm] = data.select(scores[arm], keep)
    return kept


def row(arm, tau, drawn, rows, nats):
    """One result: an arm at a tau with one seed."""
    return {"arm": arm, "tau": tau, "nats": float(nats), "python": float(drawn["python"][rows].mean())}


def both(prior, target, weight):
    """The counts of the prior, trained on with texts of the target that count ``weight`` times."""
    return jax.tree.map(lambda x, y: x + weight * y, prior, target)


def indexed(cfg):
    """The pieces of the machine, and where their strings are among all keys."""
    flags.stage("reads text of this machine and counts its strings")
    found = world(cfg)
    keys = data.byte_strings(found["pieces"])
    return found, keys, data.string_places(keys, found["pieces"])


def counts(cfg):
    """All arms with models that count: (rows, checks)."""
    found, keys, places = indexed(cfg)
    rows, same, signs = [], [], []

    def model(chosen):
        return data.count_strings(keys, places, chosen)

    def nats(trained, chosen):
        return data.byte_losses(trained, places, chosen, smoothing=cfg.smoothing)

    for seed in range(cfg.seeds):
        flags.stage(f"seed {seed}")
        drawn = draw(cfg, found, seed)
        pool, prior, target = drawn["pool"], model(drawn["prior"]), model(drawn["target"])
        before = nats(prior, pool)
        after, alone = nats(both(prior, target, cfg.weight), pool), nats(target, pool)
        scores = {
            COLOR: data.conditional_loss_reduction(before, after),
            CONDITIONAL: data.conditional_loss_reduction(None, after),
            MOORE: data.conditional_loss_reduction(before, alone),
        }
        signs.append(float(scores[COLOR].mean()))
        rows.append(row(WHOLE, 1, drawn, slice(None), nats(model(pool), drawn["test"]).mean()))
        for tau in cfg.taus:
            for arm, kept in kept_rows(scores, tau, seed).items():
                rows.append(row(arm, tau, drawn, kept, nats(model(pool[kept]), drawn["test"]).mean()))
        same.append(in_distribution(cfg, drawn, before, prior, model, nats, seed))
    yield rows, {"same": same, "mean score of the pool": signs}


def in_distribution(cfg, drawn, before, prior, model, nats, seed):
    """The gain over random pieces where target and test are drawn as the pool is: {tau: nats}."""
    pool, order = drawn["pool"], np.random.default_rng(seed + 7).permutation(len(drawn["pool"]))
    target, test, rest = np.split(order, [cfg.examples, cfg.examples + cfg.test])
    after = nats(both(prior, model(pool[target]), cfg.weight), pool[rest])
    scores, found = data.conditional_loss_reduction(before[rest], after), {}
    for tau in cfg.taus:
        kept = data.select(scores, len(rest) // tau)
        chosen, drawn_rows = pool[rest[kept]], pool[rest[: len(kept)]]
        costs = [nats(model(x), pool[test]).mean() for x in (drawn_rows, chosen)]
        found[f"tau {tau:03d}"] = float(costs[0] - costs[1])
    return found


def byte_models(cfg):
    """Transformers on bytes at the largest tau, RHO among them, and targets of two widths: (rows, checks)."""
    found, tau, rows = world(cfg), max(cfg.taus), []

    def texts(chosen):
        return data.byte_batch([x.tobytes() for x in found["pieces"][chosen]], cfg.length + 1)

    for seed in range(cfg.seeds):
        drawn = draw(cfg, found, seed)
        pool, test = texts(drawn["pool"]), texts(drawn["test"])
        flags.stage(f"seed {seed}: the prior, the tuned prior and a model of the target alone")
        prior = transformers.trained(cfg, texts(drawn["prior"]), cfg.steps, seed)
        target = texts(drawn["target"])
        tuned = transformers.trained(cfg, target, cfg.tuning, seed + 50, start=prior)
        alone = transformers.trained(cfg, target, cfg.tuning, seed + 50)
        before, after, own = (transformers.scored(cfg, p, pool) for p in (prior, tuned, alone))
        scores = {COLOR: before - after, CONDITIONAL: -after, MOORE: before - own}
        arms = kept_rows(scores, tau, seed, (COLOR, CONDITIONAL, MOORE))
        for width in (cfg.width, 4 * cfg.width):
            wide = WIDE if width > cfg.width else ""
            chosen = {a: k for a, k in arms.items() if not wide or a in (RANDOM, COLOR)}
            flags.stage(f"seed {seed}: models of width {width}")
            for arm, kept in chosen.items():
                part = {name: x[kept] for name, x in pool.items()}
                steps = cfg.wide_steps if wide else cfg.steps
                made = transformers.trained(cfg, part, steps, seed + 90, width=width)
                cost = transformers.scored(cfg, made, test, width).mean()
                rows.append(row(wide + arm, tau, drawn, kept, cost))
        made = transformers.trained(cfg, pool, cfg.steps, seed + 90, conditional=own)
        last = data.select(transformers.scored(cfg, made, pool) - own, len(before) // tau)
        rows.append(row(RHO, tau, drawn, last, transformers.scored(cfg, made, test).mean()))
        yield rows, {}


def smollm2(cfg):
    """A published model as the prior; models that count are trained on what it selects."""
    found, keys, places = indexed(cfg)
    rows, model, drawn = [], published.loaded(), draw(cfg, found, 0)
    pool = drawn["pool"]
    flags.stage(f"SmolLM2 reads the {len(pool)} pieces of the pool")
    before = published.scored(model, found["pieces"][pool])
    for seed in range(cfg.seeds):  # the pool stays, the target is drawn anew
        again = draw(cfg, found, seed)
        flags.stage(f"seed {seed}: is tuned on {cfg.examples} pieces of Python, and reads the pool again")
        tuned = published.tuned(cfg, model, found["pieces"][again["target"]], seed)
        after = published.scored(tuned, found["pieces"][pool])
        prior, target = (data.count_strings(keys, places, x) for x in (drawn["prior"], again["target"]))
        models = (prior, both(prior, target, cfg.weight))
        counted = [data.byte_losses(m, places, pool, smoothing=cfg.smoothing) for m in models]
        scores = {COLOR: before - after, CONDITIONAL: -after, COUNTED: counted[0] - counted[1]}
        for tau in cfg.taus:
            for arm, kept in kept_rows(scores, tau, seed, tuple(scores)).items():
                made = data.count_strings(keys, places, pool[kept])
                cost = data.byte_losses(made, places, again["test"], smoothing=cfg.smoothing).mean()
                rows.append(row(arm, tau, drawn, kept, cost))
        yield rows, {}
