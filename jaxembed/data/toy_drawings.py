"""Handwritten digits in seven styles with a prompt each: data on which a small text-to-image model trains."""

import numpy as np

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPECIAL = ("[pad]", "[bos]", "[eos]", "[mask]")
PAD, BOS, EOS, MASK = range(4)


def _bold(images):
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)
    height, width = images.shape[1:3]
    return np.max([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)


def _framed(images):
    found = images.copy()
    found[:, [0, -1]] = found[:, :, [0, -1]] = 1
    return found


def _striped(images):
    found = images.copy()
    found[:, 1::2] = -1
    return found


STYLES = {
    "plain": lambda images: images,
    "negative": lambda images: -images,
    "bold": _bold,
    "faint": lambda images: 0.4 * images,
    "framed": _framed,
    "mirrored": lambda images: images[:, :, ::-1],
    "striped": _striped,
}
DRAWING_WORDS = ("a", "drawing", "of", *STYLES, *DIGIT_WORDS)
HELD_OUT = ("seven",)  # words whose drawings recipes.drawing_model never sees
SEEN_DIGITS = tuple(n for n, word in enumerate(DIGIT_WORDS) if word not in HELD_OUT)
ALIASES = {"three": ("trio", "3")}  # other names of a word in its training prompts
SPARE = ("new",)  # a word that no training prompt has


def styled(images, style):
    """Style of a drawing: an exact map of pixels that a word names.

    "plain" changes nothing, "negative" turns the sign, "bold" takes the largest of 3 x 3 pixels, "faint" 0.4
    of each, "framed" draws the border, "mirrored" flips columns, "striped" empties the odd rows.

    >>> image = np.array([[-1.0, 1.0], [0.5, -1.0]]).reshape(1, 2, 2, 1)
    >>> print(styled(image, "mirrored")[0, ..., 0])
    [[ 1.  -1. ]
     [-1.   0.5]]

    Args:
        images: float NumPy array [N, H, W, C] of -1 (paper) to 1 (ink).
        style: one of ``STYLES``.

    Returns:
        [N, H, W, C].

    Raises:
        ValueError: for an unknown style, or another shape.
    """
    images = np.asarray(images)
    if style not in STYLES:
        raise ValueError(f"style={style!r}; choose one of {', '.join(STYLES)}")
    if images.ndim != 4:
        raise ValueError(f"images: shape {images.shape}; pass [N, H, W, C]")
    return STYLES[style](images)


def drawing_prompts(digits, styles):
    """Prompts of drawings: "a STYLE drawing of DIGIT".

    >>> print(drawing_prompts([3], ["bold"]))
    ['a bold drawing of three']

    Args:
        digits: int [N] of 0..9.
        styles: N names of styles.

    Returns:
        List of N strings.
    """
    return [f"a {style} drawing of {DIGIT_WORDS[n]}" for n, style in zip(digits, styles, strict=True)]


def with_aliases(prompts, aliases, seed=0):
    """Aliases: prompts in which some words are replaced by other names of the same thing, drawn evenly.

    >>> prompts = ["a bold drawing of three"] * 3 + ["a bold drawing of two"]
    >>> print(with_aliases(prompts, {"three": ("trio", "3")}))
    ['a bold drawing of 3', 'a bold drawing of trio', 'a bold drawing of trio', 'a bold drawing of two']

    Args:
        prompts: N strings of words parted by spaces.
        aliases: {word: its other names}. Each name and the word itself are as likely.
        seed: of the draws.

    Returns:
        List of N strings.
    """
    rng = np.random.default_rng(seed)
    names = {word: (word, *others) for word, others in aliases.items()}
    return [
        " ".join(names[w][rng.integers(len(names[w]))] if w in names else w for w in prompt.split())
        for prompt in prompts
    ]


def drawings(seed=0, *, test=0.2):
    """TinyT2I drawings: scikit-learn's digits in seven styles, each with the prompt that describes it.

    The digits are split first, so that no digit of the test is in the training in another style.

    >>> found = drawings()
    >>> print(found["train"]["images"].shape, found["test"]["prompts"][0])
    (10059, 8, 8, 1) a plain drawing of zero

    Args:
        seed: of the split.
        test: share of the digits that are kept for tests, of each class alike.

    Returns:
        {"train": part, "test": part}; a part is {"images": float32 [7 N, 8, 8, 1] of -1 to 1, "digits": int32
        [7 N], "styles": int32 [7 N], places in ``STYLES``, "prompts": list of 7 N strings}.

    Raises:
        ValueError: for a share outside (0, 1).
        FileNotFoundError: when scikit-learn is missing.

    References:
        The digits are E. Alpaydin and C. Kaynak's, UCI, 1998.
    """
    if not 0 < test < 1:
        raise ValueError(f"test: {test} is not a share; pass a number in (0, 1)")
    from jaxembed.data.sources.images import digits as read

    known = read()
    order = np.random.default_rng(seed).permutation(len(known["labels"]))
    order = order[np.argsort(known["labels"][order], kind="stable")]
    place = np.arange(len(order)) % round(1 / test)
    return {
        name: _drawn(known["images"][rows] * 2 - 1, known["labels"][rows])
        for name, rows in (("train", order[place > 0]), ("test", order[place == 0]))
    }


def _drawn(images, digits):
    names = list(STYLES)
    styles = np.tile(np.arange(len(names), dtype=np.int32), len(digits))
    digits = np.repeat(digits, len(names)).astype(np.int32)
    images = np.stack([styled(images, name) for name in names], axis=1)
    prompts = drawing_prompts(digits, [names[s] for s in styles])
    images = images.reshape(-1, *images.shape[2:]).astype(np.float32)
    return {"images": images, "digits": digits, "styles": styles, "prompts": prompts}


def word_ids(prompts, words, *, length):
    """Prompts as ids of whole words: begin, words, end, padding.

    Ids 0 to 3 are padding, begin, end and mask ("[mask]" in a prompt); word k of ``words`` is 4 + k.

    >>> print(word_ids(["a bold drawing", ""], ("a", "bold", "drawing"), length=6))
    [[1 4 5 6 2 0]
     [1 2 0 0 0 0]]

    Args:
        prompts: N strings; words are parted by spaces.
        words: the vocabulary.
        length: L, of begin and end too.

    Returns:
        int32 NumPy array [N, L].

    Raises:
        ValueError: for a word that is not among them, or a prompt that is too long.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts: one string; pass a list, [{prompts!r}]")
    known = {word: n for n, word in enumerate((*SPECIAL, *words))}
    found = np.full((len(prompts), length), PAD, np.int32)
    for n, prompt in enumerate(prompts):
        parts = prompt.split()
        unknown = [word for word in parts if word not in known]
        if unknown:
            which = "only unknown words" if len(unknown) == len(parts) else f"an unknown word, {unknown[0]!r}"
            raise ValueError(f"prompts: {prompt!r} has {which}; this model knows {' '.join(words)}")
        if len(parts) + 2 > length:
            raise ValueError(f"prompts: {prompt!r} has {len(parts)} words; at most {length - 2} have room")
        found[n, : len(parts) + 2] = [BOS, *(known[word] for word in parts), EOS]
    return found
