"""Pictures and texts in one transformer: patches take the places of placeholder tokens."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape, on_device
from jaxembed.encoders.pooling import last_pool
from jaxembed.encoders.transformer import transformer
from jaxembed.tables import rows_of


class Multimodal(NamedTuple):
    """An encoder of pictures and texts as three functions.

    ``init(key) -> params``; ``hidden`` as in :class:`Transformer`; ``encode(params, batch, key=None) ->
    [B, D]``. A batch is what ``data.multimodal_batch`` makes.
    """

    init: Callable
    hidden: Callable
    encode: Callable


def place_patches(tokens, where, patches):
    """Placeholder tokens: puts the k-th patch of a row at the k-th place that is marked in it.

    ``out[b, t] = patches[b, k]`` where ``where[b, t]`` is the k-th True of row b, else ``tokens[b, t]``. A
    row without marks keeps its tokens; places beyond the last patch are zeros.

    >>> tokens, patches = jnp.zeros((1, 4, 1)), jnp.array([[[5.0], [7.0]]])
    >>> print(place_patches(tokens, jnp.array([[True, False, True, False]]), patches)[0, :, 0])
    [5. 0. 7. 0.]

    Args:
        tokens: [B, T, D].
        where: bool [B, T], the placeholders.
        patches: [B, P, D].

    Returns:
        [B, T, D] in the dtype of ``tokens``.

    Raises:
        ValueError: for shapes that do not fit.
    """
    tokens, where, patches = on_device("tokens", tokens), jnp.asarray(where, bool), jnp.asarray(patches)
    check_shape("tokens", tokens, (None, None, None))
    check_shape("where", where, tokens.shape[:2])
    check_shape("patches", patches, (tokens.shape[0], None, tokens.shape[2]))
    order = jnp.cumsum(where, axis=1) - 1
    most = patches.shape[1]
    index = jnp.clip(order, 0, max(most - 1, 0))[..., None]
    filled = jnp.pad(patches, ((0, 0), (0, max(0, 1 - most)), (0, 0)))
    picked = jnp.where((order < most)[..., None], jnp.take_along_axis(filled, index, axis=1), 0)
    return jnp.where(where[..., None], picked, tokens).astype(tokens.dtype)


def multimodal(
    vocabulary,
    patch_width,
    *,
    patches=64,
    length=128,
    width=64,
    layers=4,
    heads=4,
    placeholder=1,
    causal=True,
    pool=last_pool,
    **options,
):
    """Multimodal encoder: one transformer over the patches of a picture and the words around them.

    Token ids are rows of a table. At the places of ``placeholder`` the encoder reads a linear map of the
    patches instead, plus a learned vector for the number of each patch. A position counts the real tokens
    before it, so padding on either side gives the same vectors. The vector is the state of the last real
    token, which has read all others. One encoder serves queries and targets; pictures alone and words alone
    are rows too.

    >>> model = multimodal(10, 8, patches=2, length=6, width=8, layers=1, heads=2)
    >>> params = model.init(jax.random.key(0))
    >>> batch = {"ids": jnp.array([[1, 1, 5, 2], [0, 0, 5, 2]]), "patches": jnp.ones((2, 2, 8))}
    >>> print(model.encode(params, batch | {"mask": batch["ids"] > 0}).shape)
    (2, 8)

    Args:
        vocabulary: V, rows of the table of token ids.
        patch_width: F, numbers of one patch, such as those of ``data.image_patches``.
        patches: P, the most patches of a picture.
        length: T, the most real tokens of a row, placeholders among them.
        width: D.
        layers: blocks.
        heads: attention heads; divides D.
        placeholder: id of the token that a patch replaces.
        causal: True hides later tokens; False lets all read all.
        pool: ``(tokens [B, T, D], mask [B, T]) -> [B, D]``; ``mean_pool`` suits ``causal=False``.
        options: further ones of :func:`transformer`, such as ``dropout`` or ``dtype``.

    Returns:
        :class:`Multimodal`. Batches hold "ids" int [B, T], "mask" bool [B, T], and "patches" [B, P, F] where
        some row has a picture.

    Raises:
        ValueError: when called, for rows longer than ``length`` or more patches than ``patches``.

    References:
        Z. Jiang et al. (VLM2Vec), arXiv:2410.05160. There the trunk is a published vision-language model.
    """

    def init_embed(key):
        drawn = jax.random.split(key, 4)
        normal = jax.nn.initializers.normal(0.02)
        kernel = jax.nn.initializers.lecun_normal()(drawn[1], (patch_width, width))
        return {
            "table": {"embedding": normal(drawn[0], (vocabulary, width))},
            "patch": {"kernel": kernel, "bias": jnp.zeros(width)},
            "patch_number": {"embedding": normal(drawn[2], (patches, width))},
            "token_position": {"embedding": normal(drawn[3], (length, width))},
        }

    def embed(params, batch):
        ids, mask = jnp.asarray(batch["ids"]), jnp.asarray(batch["mask"], bool)
        if ids.shape[1] > length:
            raise ValueError(f"length={length} is below the {ids.shape[1]} tokens of a row; cut the text")
        tokens = rows_of(params["table"]["embedding"], ids)
        if "patches" in batch:
            count = batch["patches"].shape[1]
            if count > patches:
                raise ValueError(f"patches={patches} is below the {count} of the batch; build it with more")
            states = batch["patches"] @ params["patch"]["kernel"] + params["patch"]["bias"]
            states = states + params["patch_number"]["embedding"][:count]
            tokens = place_patches(tokens, mask & (ids == placeholder), states)
        at = jnp.clip(jnp.cumsum(mask, axis=1) - 1, 0, length - 1)
        return tokens + params["token_position"]["embedding"][at], mask

    sizes = {"width": width, "layers": layers, "heads": heads, "causal": causal}
    model = transformer(init_embed, embed, **sizes, **options)

    def encode(params, batch, key=None):
        out = model.hidden(params, batch, key, each=_nothing)
        return pool(out["tokens"], out["mask"])

    return Multimodal(model.init, model.hidden, encode)


def _nothing(states, mask):
    """What the states between blocks are pooled to where nobody reads them."""
    return jnp.zeros((len(states), 0), states.dtype)


def check_placeholders(batch, placeholder=1):
    """Refuses a batch on the host whose placeholders do not match its pictures.

    >>> batch = {"ids": np.array([[1, 5]]), "mask": np.ones((1, 2))}
    >>> check_placeholders(batch | {"patch_mask": np.ones((1, 1))})

    Args:
        batch: {"ids", "mask" [B, T]} and, where there are pictures, "patch_mask" bool [B, P], the patches
            that each row has.
        placeholder: id of the token that a patch replaces.

    Raises:
        ValueError: names the first row whose number of placeholders is not its number of patches.
    """
    ids, mask = np.asarray(batch["ids"]), np.asarray(batch["mask"], bool)
    places = ((ids == placeholder) & mask).sum(axis=1)
    owned = np.asarray(batch["patch_mask"], bool).sum(axis=1) if "patch_mask" in batch else 0 * places
    wrong = np.flatnonzero(places != owned)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"ids: row {row} has {places[row]} placeholders for {owned[row]} patches; write one for each"
        )
