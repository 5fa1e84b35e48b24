"""The shapes in which records come: what a source returns and what the other functions take.

They are dicts with these keys; nothing checks the annotations, and further keys may travel along.
"""

from typing import NotRequired, TypedDict

import numpy as np


class Pairs(TypedDict):
    """Texts that belong together, line by line.

    ``first[i]`` and ``second[i]`` are a pair: question and answer, two sentences of one meaning.
    """

    first: list[str]
    second: list[str]
    scores: NotRequired[np.ndarray]  # float32 [N], how similar the two are
    negatives: NotRequired[list[str]]  # a text for each pair that does not belong to ``first``


class Labelled(TypedDict):
    """Texts with one label each."""

    texts: list[str]
    labels: list[str]


class Judged(TypedDict):
    """A collection to search, and judgments of which document answers which query."""

    documents: dict[str, str]  # {id: text}
    queries: dict[str, str]  # {id: text}
    judgments: dict[str, dict[str, dict[str, int]]]  # {split: {query id: {document id: gain}}}


class ClickTable(TypedDict):
    """Rows of a click log as numbers, with the vocabularies that made them."""

    columns: dict  # "labels" [N], "ids" {feature: [N] or [N, K]}, "masks" {feature: [N, K]}, "dense" [N, C]
    splits: dict[str, np.ndarray]  # {"train", "validation", "test": row numbers}
    sizes: dict[str, int]  # {feature: number of ids}
    vocabularies: dict[str, list[str]]  # {feature: value of id k at k - 1}
    time: np.ndarray | None  # float64 [N]
    scaling: dict  # {dense column: how it was scaled}
    reading: dict  # "schema", "hashed", "longest" and "transform": how further rows are read


class Images(TypedDict):
    """Pictures of one size with a label each, channels last."""

    images: np.ndarray  # uint8 or float32 [N, H, W, C]
    labels: np.ndarray  # int32 [N]
    names: list[str]  # of the labels
    texts: NotRequired[list[str]]  # a caption of each picture
    paths: NotRequired[list]  # of the files, [N]
    skipped: NotRequired[dict]  # {path: message} of files that could not be read


class Interactions(TypedDict):
    """A log of who took which item: N rows as numbers."""

    users: np.ndarray | None  # int32 [N], places in names["user"]
    items: np.ndarray  # int32 [N], places in names["item"]
    time: np.ndarray | None  # float64 [N]
    names: dict[str, list[str]]  # {"user", "item"}, sorted
    ids: dict  # {feature of the query: int32 [N] or [N, K]}
    masks: dict  # {feature of the query with several values: bool [N, K]}
    dense: np.ndarray  # float32 [N, n], scaled numbers of the query
    sizes: dict[str, int]  # {feature: number of ids}
    vocabularies: dict[str, list[str]]  # {feature: value of id k at k - 1}
    scaling: dict  # {dense column: how it was scaled}
    reading: dict  # "schema", "user" and "item": how further rows are read


class Catalogue(TypedDict):
    """A table that describes each of M items, or users, in one row."""

    names: list[str]  # of the rows, distinct
    ids: dict  # {feature: int32 [M] or [M, K]}; 0 is a value that is rare or new
    masks: dict  # {feature with several values: bool [M, K]}
    dense: np.ndarray  # float32 [M, n], scaled
    sizes: dict[str, int]  # {feature: number of ids}
    vocabularies: dict[str, list[str]]  # {feature: value of id k at k - 1}
    scaling: dict  # {dense column: how it was scaled}
    reading: dict  # "schema", "key" and "longest": how further rows are read
