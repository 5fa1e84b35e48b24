"""Rows of pictures and texts → batches of token ids and patches; batches whose parts are of one task each."""

import functools

import numpy as np

from jaxembed.extras import brings

PADDING = 0


def format_instruction(instruction, text="", *, image=False, placeholder="<image>"):
    """Instruction format: a picture's placeholder, what is asked, and the text, as VLM2Vec writes them.

    >>> print(format_instruction("Find the city", "a square with pigeons", image=True))
    <image> Find the city: a square with pigeons
    >>> print(format_instruction("", "a square with pigeons"))
    a square with pigeons

    Args:
        instruction: str, "" for none.
        text: str, "" for none.
        image: whether there is a picture.
        placeholder: what stands for it.

    Returns:
        str. A batch maker replaces the placeholder by as many tokens as the picture has patches.

    Raises:
        ValueError: without an instruction, a text and a picture; for an instruction or text that holds the
            placeholder.

    References:
        Z. Jiang et al. (VLM2Vec), arXiv:2410.05160.
    """
    if not (instruction or text or image):
        raise ValueError("text: no instruction, no text and no picture; give a row at least one of them")
    for name, given in (("instruction", instruction), ("text", text)):
        if placeholder in given:
            raise ValueError(f"{name}: {given[:40]!r} holds the placeholder {placeholder!r}; take it out")
    told = f"{instruction}: {text}" if instruction and text else instruction or text
    return " ".join(part for part in (placeholder if image else "", told) if part)


def image_patches(images, size):
    """Patches: cuts pictures into rectangles of one size, row by row, each as one vector.

    >>> print(image_patches(np.arange(16).reshape(1, 4, 4, 1), 2)[0])
    [[ 0  1  4  5]
     [ 2  3  6  7]
     [ 8  9 12 13]
     [10 11 14 15]]

    Args:
        images: [B, H, W, C], NumPy or JAX.
        size: pixels of each side, or (rows, columns); divides H and W.

    Returns:
        [B, P, rows * columns * C] with P = H / rows * W / columns, of the same kind and dtype.

    Raises:
        ValueError: for another shape, or a size that does not divide the sides.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    if images.ndim != 4 or min(rows, columns) < 1 or images.shape[1] % rows or images.shape[2] % columns:
        raise ValueError(
            f"size: {rows} x {columns} does not divide pictures {images.shape}; crop or pad them"
        )
    count, height, width, channels = images.shape
    cut = images.reshape(count, height // rows, rows, width // columns, columns, channels)
    return cut.swapaxes(2, 3).reshape(count, -1, rows * columns * channels)


def multimodal_batch(rows, tokenize, *, length, patches=None, placeholder=1, end=2, padding="right"):
    """Multimodal batch: pictures, instructions and texts as token ids of one length, and patches.

    A row is ``[placeholder] * P + tokens of the instruction + tokens of the text + [end]``. A text that is
    too long is cut; the picture, the instruction and the end always stay.

    >>> rows = [{"patches": np.ones((2, 3)), "instruction": "name it"}, {"text": "a cat"}]
    >>> batch = multimodal_batch(rows, lambda text: [3 + len(word) for word in text.split()], length=5)
    >>> print(batch["ids"], batch["patches"].shape, batch["patch_mask"][:, 0])
    [[1 1 7 5 2]
     [4 6 2 0 0]] (2, 2, 3) [ True False]

    Args:
        rows: dicts with some of "patches" [P, F], of one P for all rows that have them; "instruction" str;
            "text" str.
        tokenize: ``str -> list of ids``, without special tokens.
        length: T of the batch.
        patches: (P, F); None takes the shape of the first row that has patches. Give it where some batch has
            none, so that all batches have one shape.
        placeholder: id of the token that a patch replaces.
        end: id of the last token, whose state is pooled.
        padding: "right" or "left".

    Returns:
        {"ids": int32 [B, T], "mask": bool [B, T]}, and with patches "patches" float32 [B, P, F], zeros for
        rows without a picture, and "patch_mask" bool [B, P].

    Raises:
        ValueError: for a row with neither picture nor text nor instruction, an instruction that does not fit,
            patches of several shapes or not finite, or a text that holds the placeholder. The row is named.
    """
    if padding not in ("right", "left"):
        raise ValueError(f"padding={padding!r}; pass 'right' or 'left'")
    shape = _patch_shape(rows, patches)
    count = len(rows)
    batch = {"ids": np.full((count, length), PADDING, np.int32), "mask": np.zeros((count, length), bool)}
    if shape is not None:
        batch |= {"patches": np.zeros((count, *shape), np.float32)}
        batch |= {"patch_mask": np.zeros((count, shape[0]), bool)}
    for i, row in enumerate(rows):
        found = row.get("patches")
        if found is not None:
            batch["patches"][i], batch["patch_mask"][i] = found, True
        ids = _row_ids(i, row, tokenize, 0 if found is None else shape[0], length, (placeholder, end))
        place = slice(0, len(ids)) if padding == "right" else slice(length - len(ids), length)
        batch["ids"][i, place], batch["mask"][i, place] = ids, True
    return batch


def _patch_shape(rows, given):
    """(P, F) of the patches, or None where there are none."""
    shape = given
    for i, row in enumerate(rows):
        found = row.get("patches")
        if found is not None:
            shape = np.shape(found) if shape is None else tuple(shape)
            if np.shape(found) != shape or len(shape) != 2:
                raise ValueError(f"rows: patches of row {i} are {np.shape(found)}, those before {shape}")
            if not np.isfinite(found).all():
                raise ValueError(f"rows: patches of row {i} are not finite; leave the row out")
    return shape


def _row_ids(i, row, tokenize, patches, length, special):
    """Token ids of one row, the text cut where they are too many."""
    asked, text = (list(tokenize(row.get(key) or "")) for key in ("instruction", "text"))
    if not (patches or asked or text):
        raise ValueError(f"rows: row {i} has no picture, no instruction and no text; leave it out")
    placeholder, end = special
    if placeholder in asked or placeholder in text:
        raise ValueError(f"rows: a text of row {i} holds the placeholder {placeholder}; take it out")
    room = length - patches - len(asked) - 1
    if room < (1 if text else 0):
        raise ValueError(
            f"length={length}: row {i} has {patches} patches and {len(asked)} tokens of instruction, which "
            f"leave no place; give {length - room + bool(text)} or more, or shorten the instruction"
        )
    return [placeholder] * patches + asked + text[:room] + [end]


def homogeneous_batches(sources, size, part, *, make=None, seed=0, process=None, processes=None):
    """Homogeneous batches: joins parts that are each of one source, so that negatives are of one kind.

    In an epoch every source is permuted and cut into parts of ``part`` rows; what remains of it is dropped.
    The parts of all sources are shuffled, and ``size / part`` of them make a batch. In a batch that mixes
    tasks row by row, most negatives are told apart by the kind of the answer alone.

    >>> ds = homogeneous_batches(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 4, 2, process=0, processes=1)
    >>> print(np.sort(np.concatenate([ds[0]["rows"], ds[1]["rows"]])), len(ds[0]["rows"]))
    [0 1 2 3 4 5 6 7] 4

    Args:
        sources: int [N], the source (data set, task) of each row.
        size: rows of the global batch.
        part: rows of one source that follow one another; divides ``size``.
        make: turns row numbers [B] into a batch; None gives {"rows": row numbers}.
        seed: int >= 0.
        process: p, ``jax.process_index()`` when None.
        processes: number of processes, ``jax.process_count()`` when None; each gets its share of the parts.

    Returns:
        grain.MapDataset. Element t depends on (seed, t) alone.

    Raises:
        ValueError: for a part that does not divide the batch, fewer parts than a batch has, or parts that the
            processes do not divide.

    References:
        R. Meng et al. (VLM2Vec-V2), arXiv:2507.04590: parts of 64 rows in batches of 1,024.
    """
    import jax

    with brings("data"):
        import grain
    sources = np.asarray(sources)
    process = jax.process_index() if process is None else process
    processes = jax.process_count() if processes is None else processes
    if part < 1 or size < part or size % part or size // part % processes:
        raise ValueError(f"part={part}: does not divide size={size} among {processes} processes; change one")
    members = [np.flatnonzero(sources == source) for source in np.unique(sources)]
    total = sum(len(rows) // part for rows in members)
    if total * part < size:
        raise ValueError(f"size={size}: the sources have {total} parts of {part} rows; lower size or part")
    np.random.SeedSequence(seed)  # refuses a negative seed here rather than at the first batch
    parts = _Parts(members, part, seed)
    steps, share = total * part // size, size // part // processes

    def cut(step, place):
        first = place * (size // part) + process * share
        rows = parts(step // steps)[first : first + share].ravel()
        return {"rows": rows} if make is None else make(rows)

    return grain.MapDataset.range(steps).repeat().map_with_index(cut)


class _Parts:
    """``epoch -> row numbers [parts, rows of a part]``, the last two epochs kept."""

    def __init__(self, members, part, seed):
        self.members, self.part, self.seed = members, part, seed
        self.of = functools.lru_cache(maxsize=2)(self._of)

    def __call__(self, epoch):
        return self.of(epoch)

    def _of(self, epoch):
        rng = np.random.default_rng((self.seed, epoch))
        found = [rng.permutation(rows)[: len(rows) // self.part * self.part] for rows in self.members]
        return rng.permutation(np.concatenate(found).reshape(-1, self.part), axis=0)
