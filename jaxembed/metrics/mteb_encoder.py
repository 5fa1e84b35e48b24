"""An encoder of texts in the form that the package mteb drives, under a name that tells encoders apart."""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxembed.arrays import inner, unit
from jaxembed.extras import brings
from jaxembed.metrics.tasks import checked_vectors

_NAMELESS = ("no_model_name/available", "no_revision_available")  # what mteb calls a model without


@dataclasses.dataclass(frozen=True)
class MTEBEncoder:
    """An encoder in the form that the package ``mteb`` drives: ``mteb.evaluate(MTEBEncoder(f), tasks)``.

    mteb stores every score under the model's name and revision and does not compute it again, so both must
    tell encoders apart. ``encode_texts`` may be the method of an :class:`~jaxembed.encoders.Encoder`, also
    inside ``functools.partial``. The revision is then derived from the digest of its weights and from the
    arguments of the partial. Any other function needs both.

    >>> model = MTEBEncoder(lambda texts: [[1.0]] * len(texts), name="me/constant", revision="1")
    >>> print(model.name, model.revision)
    me/constant 1

    Args:
        encode_texts: list of str -> [n, D]. It gets ``batch_size=`` where it takes that; else it is called
            with that many texts at a time.
        encode_queries: optional encoder of what MTEB calls queries (a prompt); default ``encode_texts``.
        name: under which results are stored, "owner/model"; default "jaxembed/encoder" with a derived
            revision.
        revision: of the weights and of everything else that changes a vector.
        meta: optional ``mteb.ModelMeta`` with name and revision, instead of these two.

    Raises:
        ValueError: when name or revision is missing and cannot be derived.
    """

    encode_texts: Callable
    encode_queries: Callable | None = None
    name: str | None = None
    revision: str | None = None
    meta: Any = None

    def __post_init__(self):
        name, revision = self.name, self.revision
        if self.meta is not None:
            if name is not None or revision is not None:
                raise ValueError("meta: has a name and a revision; leave out name= and revision=")
            name, revision = self.meta.name, self.meta.revision
        elif revision is None:
            revision = _revision(self.encode_texts, self.encode_queries)
            name = name or ("jaxembed/encoder" if revision else None)
        for key, value in (("name", name), ("revision", revision)):
            if not isinstance(value, str) or value in ("", *_NAMELESS):
                raise ValueError(
                    f"{key}: is missing, so mteb would give this encoder the stored scores of another; "
                    "give name= and revision= as text, or the encode_texts of an encoders.Encoder"
                )
            object.__setattr__(self, key, value)

    @property
    def mteb_model_meta(self):
        """The ``mteb.ModelMeta`` under which results are stored."""
        if self.meta is not None:
            return self.meta
        with brings("peers"):
            from mteb.models.model_meta import ModelMeta
        return ModelMeta.create_empty({"name": self.name, "revision": self.revision})

    def encode(self, inputs, *, prompt_type=None, batch_size=None, **_):
        """Encodes a list of str, or batches {"text": list of str}, to float32 [n, D]."""
        inputs = list(inputs)
        texts = [t for part in inputs for t in (part["text"] if isinstance(part, dict) else [part])]
        queries = getattr(prompt_type, "value", prompt_type) == "query" and self.encode_queries
        encode_texts = self.encode_queries if queries else self.encode_texts
        return checked_vectors(_in_batches(encode_texts, batch_size), texts).astype(np.float32)

    def similarity(self, embeddings1, embeddings2):
        """Computes all cosines [n, m] of [n, D] and [m, D]."""
        return np.asarray(inner(_rows(embeddings1), _rows(embeddings2)))

    def similarity_pairwise(self, embeddings1, embeddings2):
        """Computes the cosine [n] of each row of [n, D] with its partner."""
        return np.sum(np.asarray(_rows(embeddings1) * _rows(embeddings2)), axis=-1)


def _revision(*functions):
    """Hexadecimal digits that tell the encoders inside functions apart; None where one hides its weights."""
    told = []
    for function in functions:
        options = []
        while isinstance(function, functools.partial):
            options.append((function.args, sorted(function.keywords.items())))
            function = function.func
        digest = getattr(getattr(function, "__self__", None), "digest", None)
        if function is not None and digest is None:
            return None
        told.append((options, function and function.__name__, digest and digest()))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:40]


def _in_batches(encode_texts, batch_size):
    """The same function with a number of texts at a time."""
    if batch_size is None:
        return encode_texts
    known = inspect.signature(encode_texts).parameters.values()
    if any(p.name == "batch_size" or p.kind is p.VAR_KEYWORD for p in known):
        return functools.partial(encode_texts, batch_size=batch_size)

    def encode(texts):
        parts = [texts[i : i + batch_size] for i in range(0, len(texts), batch_size)] or [[]]
        return np.concatenate([checked_vectors(encode_texts, part) for part in parts])

    return encode


def _rows(vectors):
    return unit(np.atleast_2d(np.asarray(vectors, np.float32)))
