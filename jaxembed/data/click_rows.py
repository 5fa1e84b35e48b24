"""New rows of clicks → the arrays that a model trained on a table reads."""

import dataclasses
import types

from jaxembed import files
from jaxembed.data.click_tables import chunks_of, joined, padded, part_of
from jaxembed.data.scaling import scale_columns


def click_rows(
    source,
    schema,
    vocabularies,
    *,
    labels=False,
    scaling=None,
    hashed=(),
    longest=None,
    transform=None,
    limit=None,
    block=1 << 24,
):
    """New rows: reads them with the vocabularies of a table that a model was trained on.

    A value of a vocabulary gets its id there, 1, 2, ... Every other value gets id 0, as rare ones do in
    ``ctr_table``. The meaning of id 0 was learned only if training rows had it. So train with ``least=2``:
    values that occur once then count as those never seen. Hashed features need no vocabulary.

    >>> chunk = {"city": ["rome", "oslo", "rome"], "clicked": [1, 0, 0]}
    >>> from jaxembed.data import Schema, ctr_table
    >>> schema = Schema(label="clicked", categorical=("city",))
    >>> table = ctr_table(chunk, schema, split="time", fractions=(1, 0, 0))
    >>> print(click_rows({"city": ["oslo", "bonn"]}, schema, table["vocabularies"])["ids"]["city"])
    [2 0]

    Args:
        source: a file or a table in memory, as for ``ctr_table``; a column of labels is not needed.
        schema: :class:`Schema` of the training table.
        vocabularies: {feature: list of str, id k at k - 1}, ``ctr_table(...)["vocabularies"]``.
        labels: True reads the labels too, by the rules of the schema, and leaves out the rows that it drops.
            False keeps every row of the source in its order.
        scaling: ``ctr_table(...)["scaling"]``, for dense columns that were scaled in training.
        hashed: the features that were hashed in training.
        longest, transform, limit, block: as for ``ctr_table``.

    Returns:
        {"ids": {feature: int32 [N], [N, K] if multi-valent, uint32 if hashed}, "masks": {multi-valent
        feature: bool [N, K]}, "dense": float32 [N, dense columns]}, with ``labels`` also {"labels": float32
        [N]}.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a feature without a vocabulary that is not hashed, for vocabularies or scaling of
            other columns, no rows, and for what ``ctr_table`` refuses.
    """
    other = set(schema.features) - set(hashed) ^ set(vocabularies)
    if other:
        raise ValueError(
            f"vocabularies: {sorted(other)} do not fit; give one for each of {list(schema.features)} that "
            "hashed= does not name"
        )
    if scaling and list(scaling) != list(schema.dense):
        raise ValueError(f"scaling: has {list(scaling)}, not the dense columns {list(schema.dense)}")
    if not labels:
        bare = {"label": None, "threshold": None, "positive": None, "dropped": ()}
        schema = dataclasses.replace(schema, **bare)
    schema = dataclasses.replace(schema, time=None)
    known = {
        name: types.MappingProxyType({value: k for k, value in enumerate(listed, start=1)})
        for name, listed in vocabularies.items()
    }
    options = {"longest": longest, "transform": transform or {}, "gaps": bool(scaling)}
    with files.named(source):
        parts = [part_of(c, schema, known, **options) for c in chunks_of(source, schema, limit, block)]
        if not sum(len(part["dense"]) for part in parts):
            raise ValueError("source: holds no rows; check the file, dropped= and limit=")
    columns = {"labels": joined(parts, "labels")} if labels else {}
    columns |= {"ids": {}, "masks": {}, "dense": joined(parts, "dense")}
    for name in schema.features:
        columns["ids"][name] = joined(parts, ("ids", name))
    for name in schema.multivalent:
        lengths = joined(parts, ("lengths", name))
        columns["ids"][name], columns["masks"][name] = padded(columns["ids"][name], lengths)
    if scaling:
        columns["dense"] = scale_columns(columns["dense"], scaling)
    return columns
