"""Merging of published text encoders that were trained from one start."""

import dataclasses
import functools
import pathlib

import numpy as np
import optax

from jaxembed import encoders, weights
from jaxembed.recipes.fine_tuning import batch_maker, checked_pairs, objective
from jaxembed.weights.merge import check_same

NAMES = ("first", "second", "negatives")


def merge_encoders(
    models,
    *,
    start=None,
    probe=None,
    coefficients=None,
    rule=None,
    granularity="model",
    folder=None,
    steps=100,
    batch_size=32,
    length=128,
    temperature=0.05,
    limit=2.0,
    seed=0,
):
    """Merging: one text encoder in the place of several that were trained from one start.

    With ``probe`` the coefficients are fitted on it (Self Positioning, ``weights.fit_coefficients``). With
    neither ``probe`` nor ``coefficients`` the models are averaged. A probe has the losses of
    :func:`fine_tune`: InfoNCE for pairs, CoSENT where they have scores.

    ``merged, found = recipes.merge_encoders(["a", "b"], start="base", probe=pairs, folder="merged")``

    Args:
        models: T folders, names on the hub or ``Encoder``, at least two. Prompts, lengths and heads of the
            result are those of the first.
        start: the model that all were trained from, in the same forms. None takes the first model as the
            origin, from which the others are reached along straight lines.
        probe: ``data.records.Pairs`` or rows of texts, as for :func:`fine_tune`; or {task: pairs}, whose
            tasks get as many batches each. A few hundred pairs that no model was trained on and no test
            holds.
        coefficients: optional coefficients of ``weights.merge`` in place of a probe, for the models in their
            order (without ``start``, for the second and later ones).
        rule: "slerp" or "linear"; default "slerp" where start and probe are given, else "linear". A slerp
            chain of a probe takes the models in the order of the length of their task vectors.
        granularity: "model", "layer" or "tensor", as of ``weights.merge``.
        folder: optional path, new or empty, where the result is written; sentence-transformers reads it.
        steps: of each fit.
        batch_size: pairs of a batch of the probe, at most what a task has.
        length: tokens at which texts of the probe are cut, special ones among them.
        temperature: of InfoNCE.
        limit: bound of the coefficients, as of ``weights.fit_coefficients``.
        seed: of the order of the probe.

    Returns:
        The merged ``Encoder``, and the coefficients with "order", the numbers of the models that they belong
        to: {"order": list, "coefficients": as of ``weights.merge``}.

    Raises:
        FileExistsError: for a folder that holds something.
        ValueError: for models whose parameters, tokens or pooling differ, and arguments that contradict one
            another.

    References:
        M. Li et al., arXiv:2410.15035.
    """
    if probe is not None and coefficients is not None:
        raise ValueError("coefficients: a probe fits them; leave one of both out")
    if folder is not None and pathlib.Path(folder).exists() and any(pathlib.Path(folder).iterdir()):
        raise FileExistsError(f"folder: {folder} holds something; choose a new one")
    rule = rule or ("linear" if start is None or probe is None else "slerp")
    if rule == "slerp" and start is None:
        raise ValueError("start: slerp turns between task vectors; name the model that all were trained from")
    opened = _opened(models, start)
    model, origin = opened[0], opened[-1] if start is not None else opened[0]
    trained = opened[:-1] if start is not None else opened[1:]
    vectors = [weights.task_vector(one.params, origin.params) for one in trained]
    order, options = [*range(len(vectors))], {"rule": rule, "granularity": granularity}
    if probe is not None:
        if rule == "slerp":
            order.sort(key=lambda t: float(optax.tree.norm(vectors[t])))
        vectors = [vectors[t] for t in order]
        fitted = {"steps": steps, "limit": limit, "key": seed, **options}
        batches = _probe_batches(model, probe, batch_size, length, seed)
        loss_fn = _loss(model.encode, temperature)
        coefficients, _ = weights.fit_coefficients(loss_fn, origin.params, vectors, batches, **fitted)
    elif coefficients is None:
        coefficients = 1 / len(models)
    merged = dataclasses.replace(model, params=weights.merge(origin.params, vectors, coefficients, **options))
    if folder is not None:
        merged.save(folder)
    return merged, {"order": [t + (start is None) for t in order], "coefficients": coefficients}


def _opened(models, start):
    """The encoders, ``start`` last; refuses those that cannot be merged, both by name."""
    if isinstance(models, str | pathlib.PurePath) or len(models) < 2:
        raise ValueError("models: pass a list of at least two folders or encoders")
    given = {f"models[{i}]": model for i, model in enumerate(models)}
    given |= {} if start is None else {"start": start}
    found = {}
    for name, model in given.items():
        named = f"{name} {model}" if isinstance(model, str | pathlib.PurePath) else name
        found[named] = model if named == name else encoders.pretrained.load(model)
    (reference, one), *rest = found.items()
    for name, other in rest:
        check_same(name, other.params, reference, one.params)
        if other.tokenizer.get_vocab() != one.tokenizer.get_vocab():
            raise ValueError(f"{name}: other tokens than {reference}; merge models of one start")
        if (other.pooling, _kinds(other)) != (one.pooling, _kinds(one)):
            raise ValueError(f"{name}: another pooling than {reference}; merge models of one start")
    return [*found.values()]


def _kinds(encoder):
    return [kind for kind, _, _ in encoder.folder.steps]


def _probe_batches(encoder, probe, batch_size, length, seed):
    """Batches of one task each, the tasks in turn and equally often."""
    tasks = probe if hasattr(probe, "values") and "first" not in probe else {"probe": probe}
    cut = [_batches_of(encoder, pairs, batch_size, length, seed) for pairs in tasks.values()]
    return [batches[i % len(batches)] for i in range(max(map(len, cut))) for batches in cut]


def _batches_of(encoder, pairs, batch_size, length, seed):
    pairs = checked_pairs(encoder, pairs, 1, None, None, ("qd",))
    texts = {name: pairs[name] for name in NAMES if pairs.get(name) is not None}
    count = len(texts["first"])
    if count < 2:
        raise ValueError(f"probe: a task of {count} pair; give at least two")
    longest = max(encoder.tokenize(x)["ids"].shape[1] for x in texts.values())
    make = batch_maker(encoder, texts, min(length, longest), scores=pairs.get("scores"))
    size = min(batch_size, count)
    order = np.random.default_rng(seed).permutation(count)
    return [make(order[i : i + size]) for i in range(0, count - size + 1, size)]


@functools.lru_cache(maxsize=16)
def _loss(encode, temperature):
    """The loss of a batch of any task; the same object for the same arguments."""

    def loss_fn(params, batch, key):
        names = tuple(name for name in NAMES if name in batch)
        return objective(encode, names, None, None, temperature, 0.0, ("qd",))(params, batch, key)

    return loss_fn
