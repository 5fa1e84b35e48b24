"""Generated pictures of coloured shapes whose objects, masks and questions are known."""

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 215, 50),
    "purple": (160, 60, 190),
    "orange": (240, 140, 30),
}
SIZES = ("small", "big")
TEMPLATES = (
    "where is the {}?",
    "which thing is a {}?",
    "show me the {}",
    "find the {}",
    "point at the {}",
    "can you see the {}?",
    "what is the place of the {}?",
    "mark the {}",
    "highlight every pixel of the {}",
    "I am looking for a {}",
    "the {}, please",
    "which part of the picture shows a {}?",
    "select the {}",
    "where did the {} go?",
    "is there a {} here, and where?",
    "outline the {}",
    "give me the region of the {}",
    "tell me where a {} is",
    "locate the {}",
    "there must be a {} somewhere",
    "cut the {} out of the picture",
    "in which place do you find a {}?",
    "please spot the {}",
    "draw around the {}",
)
RELATIONS = {
    "what is left of the {}?": (0, -1),
    "what is right of the {}?": (0, 1),
    "what is above the {}?": (1, -1),
    "what is below the {}?": (1, 1),
}
_TRIES = 60


def scenes(seed, *, count, size=64, objects=(2, 4), shapes=6, colours=6, sides=((12, 22),)):
    """Scenes of shapes: coloured shapes that do not touch, on a noisy grey ground.

    Objects of a picture differ in shape, colour or kind of size. Every pixel has noise, and the brightness of
    grounds and objects varies.

    >>> drawn = scenes(0, count=2, size=48, objects=(3, 5), shapes=3, colours=4, sides=((9, 11), (15, 18)))
    >>> print(drawn["images"].shape, drawn["boxes"].shape, drawn["where"].sum(axis=1))
    (2, 48, 48, 3) (2, 5, 4) [4 3]

    Args:
        seed: int; the same one draws the same pictures.
        count: N pictures.
        size: S, their side in pixels.
        objects: least and most number K of objects of a picture. Above the least number, one for which no
            place is found is left out.
        shapes: how many of SHAPES occur.
        colours: how many of COLOURS occur.
        sides: least and most side in pixels for each kind of size.

    Returns:
        Dict of NumPy arrays: ``images`` uint8 [N, S, S, 3]; ``owner`` uint8 [N, S, S], k + 1 where object k
        is and 0 elsewhere; ``boxes`` float32 [N, K, 4], (x0, y0, x1, y1) around the pixels of each object;
        ``shape``, ``colour`` and ``kind`` int32 [N, K], numbers of SHAPES, COLOURS and ``sides``; ``where``
        bool [N, K], False for padding, whose box is 0.

    Raises:
        ValueError: for sizes that no picture can have.
    """
    low, high = objects
    if count < 1 or not 1 <= low <= high <= 254:
        raise ValueError(f"count={count}, objects={objects}: draw at least one picture with one object")
    if not 1 <= shapes <= len(SHAPES) or not 1 <= colours <= len(COLOURS):
        raise ValueError(f"shapes={shapes}, colours={colours}: choose 1 to {len(SHAPES)} and {len(COLOURS)}")
    if high > shapes * colours * len(sides) or any(not 3 <= a <= b <= size for a, b in sides):
        raise ValueError(f"sides={sides}: choose 3 to {size} pixels, and as many sorts as {high} objects")
    rng = np.random.default_rng(seed)
    shown = {"images": np.zeros((count, size, size, 3), np.uint8)}
    shown["owner"] = np.zeros((count, size, size), np.uint8)
    shown["boxes"] = np.zeros((count, high, 4), np.float32)
    shown |= {name: np.zeros((count, high), np.int32) for name in ("shape", "colour", "kind")}
    shown["where"] = np.zeros((count, high), bool)
    for n in range(count):
        own = {name: x[n] for name, x in shown.items()}
        for _ in range(_TRIES):
            sorts = rng.permutation(shapes * colours * len(sides))[: rng.integers(low, high + 1)]
            if _place(rng, own, sorts, (shapes, colours, len(sides)), sides) >= low:
                break
        else:
            raise ValueError(f"objects={objects}: {low} of them do not fit in {size} pixels; draw fewer")
    return shown


def _place(rng, shown, sorts, counts, sides):
    """Draws the objects of one picture into its arrays; returns how many found a place."""
    for x in shown.values():
        x[:] = 0
    size = len(shown["owner"])
    pixels = np.full((size, size, 3), rng.uniform(60, 150))
    taken, k = np.zeros((size, size), bool), 0
    for sort in sorts:
        shape, colour, kind = np.unravel_index(sort, counts)
        side = int(rng.integers(sides[kind][0], sides[kind][1] + 1))
        for _ in range(_TRIES):
            x, y = rng.integers(0, size - side + 1, 2)
            around = slice(max(0, y - 1), y + side + 1), slice(max(0, x - 1), x + side + 1)
            if not taken[around].any():
                break
        else:
            continue
        taken[y : y + side, x : x + side] = True
        mask = _shape(SHAPES[shape], side)
        own = shown["owner"][y : y + side, x : x + side]
        own[mask] = k + 1
        pixels[y : y + side, x : x + side][mask] = np.array(list(COLOURS.values())[colour]) * rng.uniform(
            0.7, 1
        )
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        shown["boxes"][k] = x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1
        for name, value in (("shape", shape), ("colour", colour), ("kind", kind), ("where", True)):
            shown[name][k] = value
        k += 1
    noise = rng.normal(scale=20, size=pixels.shape)
    shown["images"][:] = np.clip(np.rint(pixels + noise), 0, 255)
    return k


def _shape(name, side):
    """Bool [side, side]: the pixels of a shape that fills a box."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side * 2 - 1
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    if name == "circle":
        return radius <= 1
    if name == "ring":
        return (radius <= 1) & (radius >= 0.55)
    if name == "triangle":
        return np.abs(x) <= (y + 1) / 2
    if name == "cross":
        return (np.abs(x) <= 0.34) | (np.abs(y) <= 0.34)
    if name == "star":  # five points; the edge of a tenth runs from radius 1 to radius 0.45
        tenth = np.pi / 5
        turn = np.abs((angle + tenth) % (2 * tenth) - tenth)
        ahead, beside = 0.45 * np.cos(tenth), 0.45 * np.sin(tenth)
        return radius * (np.cos(turn) * beside + np.sin(turn) * (1 - ahead)) <= beside
    return np.ones((side, side), bool)


def questions(seed, drawn, *, templates=TEMPLATES):
    """Referring questions: a text for each scene that fits exactly one of its objects.

    Half of the questions name colour and shape, where no other object has both; the others name the kind of
    size too. The answer is what the question leaves out.

    >>> drawn = scenes(0, count=3, objects=(3, 5), shapes=3, colours=4, sides=((9, 11), (15, 18)))
    >>> asked = questions(0, drawn)
    >>> print(asked["texts"][0], "|", asked["answers"][0], asked["target"])
    outline the green square | small [3 1 0]

    Args:
        seed: int.
        drawn: scenes of :func:`scenes` with two kinds of size.
        templates: texts with {} for the object.

    Returns:
        {"texts": list of N, "answers": list of N, "target": int32 [N], the number of the object}.

    Raises:
        ValueError: for no templates, or scenes with other than two kinds of size.
    """
    if not templates or drawn["kind"].max() >= len(SIZES):
        raise ValueError("templates: none, or scenes of more than two sizes; pass texts and two sides")
    rng, texts, answers, target = np.random.default_rng(seed), [], [], []
    for n, kept in enumerate(drawn["where"].sum(axis=1)):
        k = int(rng.integers(kept))
        short, whole = described(drawn, n, k)
        same = [described(drawn, n, j)[0] == short for j in range(kept)]
        brief = sum(same) == 1 and rng.random() < 0.5
        texts.append(templates[rng.integers(len(templates))].format(short if brief else whole))
        answers.append(SIZES[drawn["kind"][n, k]] if brief else "yes")
        target.append(k)
    return {"texts": texts, "answers": answers, "target": np.array(target, np.int32)}


def relational_questions(seed, drawn):
    """Relational questions: the text names one object and asks for the only one on a side of it.

    The object named is the second from that side, by the middle of its box.

    >>> drawn = scenes(0, count=3, objects=(3, 5), shapes=3, colours=4, sides=((9, 11), (15, 18)))
    >>> asked = relational_questions(0, drawn)
    >>> print(asked["texts"][0], asked["target"][0], asked["named"][0])
    what is below the small blue circle? 2 1

    Args:
        seed: int.
        drawn: scenes of :func:`scenes` with two kinds of size, each with two objects at least.

    Returns:
        {"texts": list of N, "target": int32 [N], "named": int32 [N]}.

    Raises:
        ValueError: for a scene of one object.
    """
    counts = drawn["where"].sum(axis=1)
    if counts.min() < 2:
        raise ValueError("drawn: a scene has one object; draw at least two")
    rng, found = np.random.default_rng(seed), {"texts": [], "target": [], "named": []}
    middles = (drawn["boxes"][..., :2] + drawn["boxes"][..., 2:]) / 2
    for n, kept in enumerate(counts):
        template = list(RELATIONS)[rng.integers(len(RELATIONS))]
        axis, sign = RELATIONS[template]
        target, named = np.argsort(-sign * middles[n, :kept, axis], kind="stable")[:2]
        found["texts"].append(template.format(described(drawn, n, named)[1]))
        found["target"].append(target)
        found["named"].append(named)
    return {k: x if k == "texts" else np.array(x, np.int32) for k, x in found.items()}


def described(drawn, n, k):
    """Object k of scene n in words: (colour and shape, size, colour and shape).

    >>> drawn = scenes(0, count=1, objects=(3, 5), shapes=3, colours=4, sides=((9, 11), (15, 18)))
    >>> print(described(drawn, 0, 0))
    ('green triangle', 'small green triangle')

    Args:
        drawn: scenes of :func:`scenes`.
        n, k: numbers of the scene and of the object.
    """
    short = f"{list(COLOURS)[drawn['colour'][n, k]]} {SHAPES[drawn['shape'][n, k]]}"
    return short, f"{SIZES[drawn['kind'][n, k]]} {short}"
