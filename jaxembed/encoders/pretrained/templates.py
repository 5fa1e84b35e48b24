"""What is put around texts, and what of it is pooled: instructions, templates with a mask; the own pooler."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.encoders.pretrained.batches import check_text, check_texts, text_batch, vectors_of_texts
from jaxembed.ragged import bucket

SETTINGS = "config_sentence_transformers.json"
MASKED = 'This sentence : "{}" means [MASK] .'
POOLERS = (  # the end of the layer's name in a checkpoint, and what follows the layer
    ("lm_head.dense", functools.partial(jax.nn.gelu, approximate=False)),
    ("pooler.dense", jnp.tanh),
)


def instruction(task):
    """Instruction prefix: the text that NV-Embed puts in front of a query to say which task it is of.

    >>> print(instruction("Find the answer.") + "who wrote it?")
    Instruct: Find the answer.
    Query: who wrote it?

    Args:
        task: str, one sentence.

    Returns:
        "Instruct: {task}\\nQuery: ", for ``encode_texts(prompt=)``, :func:`with_prompts`, or the prompts of
        ``recipes.fine_tune``. Documents get none; where both sides are alike (similarity), both get it.

    References:
        C. Lee et al. (NV-Embed), arXiv:2405.17428.
    """
    return f"Instruct: {check_text(task, 'task')}\nQuery: "


def with_prompts(encoder, prompts, *, default=None, pooled=True):
    """Prompts of an encoder: gives it named texts that it puts in front of what it reads.

    ``encoder = with_prompts(encoder, {"query": instruction("Find the answer.")}, pooled=False)``

    ``recipes.search`` puts the one named "query" in front of queries. ``save`` writes them.

    Args:
        encoder: of ``encoders.pretrained.load``.
        prompts: {name: str}, in place of those it has.
        default: optional name of the one that is used where none is asked for.
        pooled: False leaves the tokens of the prompt out of the pooling; all tokens still read them.

    Returns:
        The encoder with these prompts; parameters and functions are the same.

    Raises:
        ValueError: for a prompt that is not a text, a default that is not among them, or ``pooled=False``
            with pooling "cls", whose token stands before the prompt.

    References:
        The file's form is that of sentence-transformers. C. Lee et al. (NV-Embed), arXiv:2405.17428, pool
        without the instruction.
    """
    prompts = {name: check_text(text, f"prompts[{name!r}]") for name, text in prompts.items()}
    if default is not None and default not in prompts:
        raise ValueError(f"default={default!r} is not among the prompts {', '.join(prompts) or 'none'}")
    if not pooled and "cls" in encoder.pooling:
        raise ValueError(
            "pooled=False: the pooling is 'cls', whose token stands before the prompt; use 'mean'"
        )
    folder = encoder.folder
    told = json.loads(folder.files.get(SETTINGS, b"{}")) | {
        "prompts": prompts,
        "default_prompt_name": default,
    }
    steps = tuple(
        (kind, place, config | ({"include_prompt": pooled} if kind == "Pooling" else {}))
        for kind, place, config in folder.steps
    )
    files = folder.files | {SETTINGS: json.dumps(told, indent=1).encode()}
    changed = {"prompts": prompts, "default_prompt": default, "steps": steps, "files": files}
    return dataclasses.replace(encoder, folder=dataclasses.replace(folder, **changed))


def pretrained_pooler(encoder):
    """Pretrained pooler: the dense layer behind the blocks that a checkpoint brings and its vectors skip.

    BERT has one that was trained along, with tanh. RoBERTa's is not; the layer of its word head takes the
    place, with GELU, as in DefSent+.

    ``params, activation = pretrained_pooler(encoder)``
    ``vectors = encoders.mlp(params, pooled_states, activation=activation, final=True)``

    Args:
        encoder: of ``encoders.pretrained.load``.

    Returns:
        ({"layer_0": {"kernel": float32 [D, D], "bias": [D]}}, activation), as ``encoders.mlp`` takes them.

    Raises:
        ValueError: where the checkpoint holds neither layer.

    References:
        X. Liu, DefSent+, arXiv:2405.16153, trains it along and throws it away. All families whose checkpoint
        holds a word head of RoBERTa's form are taken as RoBERTa.
    """
    for end, activation in POOLERS:
        for name, kernel in encoder.heads.items():
            if name.removesuffix(".weight").endswith(end) and name.endswith(".weight"):
                bias = encoder.heads[name.removesuffix("weight") + "bias"]
                layer = {"kernel": np.asarray(kernel, np.float32).T, "bias": np.asarray(bias, np.float32)}
                return {"layer_0": jax.tree.map(jnp.asarray, layer)}, activation
    raise ValueError(
        f"encoder: its checkpoint holds no {' or '.join(end for end, _ in POOLERS)}; use one that was saved "
        "with its head, or start from the identity"
    )


def prompt_batch(encoder, texts, *, template=MASKED, mask_token="[MASK]", length=None):
    """Prompt pooling: puts texts into a template and lets the pooling read its mask token alone.

    The state of the mask token is then the vector of the text: ``encoder.encode(params, batch)`` under a
    pooling that takes a token as it is ("mean", "max", "lasttoken").

    Args:
        encoder: of ``encoders.pretrained.load``.
        texts: list of str.
        template: str with "{}" for the text and one mask token.
        mask_token: as the tokenizer writes it, "<mask>" for RoBERTa.
        length: optional T, at most ``max_length``. A longer text is cut; the template stays.

    Returns:
        {"ids": int32 [B, T], "mask": bool [B, T], "pool_mask": bool [B, T]}, True at the mask token.

    Raises:
        ValueError: for a template without "{}" or without one mask token, an unknown mask token, or a length
            that leaves no place for a text.

    References:
        X. Liu, DefSent+, arXiv:2405.16153; T. Jiang et al. (PromptBERT), arXiv:2201.04337.
    """
    mask_id, last = _checked(encoder, template, mask_token)
    ids = _filled(encoder, check_texts(texts), template, length)
    longest = max(map(len, ids), default=1)
    batch = text_batch(ids, len(ids), length or min(bucket(longest), encoder.max_length))
    return batch | {"pool_mask": _at_mask(batch["ids"], mask_id, last)}


def encode_prompted(encoder, texts, *, template=MASKED, mask_token="[MASK]", length=None, batch_size=32):
    """Prompted vectors: one vector per text, the state of the mask token of a template around it.

    ``vectors = encode_prompted(encoder, ["a text", "another"])``

    Args:
        encoder: of ``encoders.pretrained.load``, with a pooling as in :func:`prompt_batch`.
        texts: list of str.
        template, mask_token, length: as in :func:`prompt_batch`.
        batch_size: rows of a batch.

    Returns:
        float32 NumPy array [n, D], rows in the order of ``texts``.

    Raises:
        ValueError: as :func:`prompt_batch`.

    References:
        X. Liu, DefSent+, arXiv:2405.16153.
    """
    mask_id, last = _checked(encoder, template, mask_token)

    def run(batch):
        return encoder.encode(encoder.params, batch | {"pool_mask": _at_mask(batch["ids"], mask_id, last)})

    def tokenize(some):
        return _filled(encoder, some, template, length), 0

    return vectors_of_texts(run, tokenize, texts, batch_size, length or encoder.max_length, encoder.width)


def _checked(encoder, template, mask_token):
    """The id of the mask token, and whether it stands behind the text."""
    mask_id = encoder.tokenizer.token_to_id(mask_token)
    if mask_id is None:
        raise ValueError(f"mask_token={mask_token!r}: the tokenizer has no such token; name its mask token")
    if template.count("{}") != 1 or template.count(mask_token) != 1:
        raise ValueError(f"template={template!r}: needs one {{}} for the text and one {mask_token}")
    if set(encoder.pooling) & {"cls", "weightedmean", "mean_sqrt_len_tokens"}:
        raise ValueError(f'encoder: its pooling is {encoder.pooling}; load it with pooling="mean"')
    return mask_id, template.index(mask_token) > template.index("{}")


def _at_mask(ids, mask_id, last):
    """Bool [B, T]: True at the last, or the first, place of the mask token; a text may hold one too."""
    found = ids == mask_id
    order = found[:, ::-1] if last else found
    first = np.cumsum(order, axis=1) == 1
    first = first[:, ::-1] if last else first
    return found & first


def _filled(encoder, texts, template, length):
    """Token ids of the template around each text, which is cut by words of the tokenizer until it fits."""
    read, most = encoder.tokenizer.encode, length or encoder.max_length
    before, after = template.split("{}")
    if most > encoder.max_length:
        raise ValueError(f"length={length} is above max_length={encoder.max_length}; load with a larger one")
    room = most - len(read(before + after).ids)
    if room < 1:
        raise ValueError(f"length={most}: leaves no place for a text in the template; give {most - room + 1}")
    rows = []
    for text in texts:
        filled = read(before + text + after)
        while filled.overflowing or len(filled.ids) > most:
            alone = read(text, add_special_tokens=False)
            ends = [end for _, end in alone.offsets[: min(room, len(alone.ids) - 1)]]
            text = text[: max(ends, default=0)]
            filled = read(before + text + after)
        rows.append(filled.ids)
    return rows
