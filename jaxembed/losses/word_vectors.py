"""Word vectors: how well a word fits its context, by six models, and what they are trained on."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import accumulator, check_shape, masked_mean, on_device

KINDS = ("skip_gram", "cbow", "order", "lbl", "nnlm", "cw")


def init_word_scores(key, kind, vocabulary, width, *, window=5):
    """Word models: draws the params of :func:`word_scores`.

    Input rows, kernels and C&W's last vector are uniform within 0.5 / D, output rows are zero.

    >>> params = init_word_scores(jax.random.key(0), "lbl", 1000, 50, window=2)
    >>> print(jax.tree.map(jnp.shape, params)["hidden"], params["output"]["embedding"].shape)
    {'kernel': (200, 50)} (1000, 50)

    Args:
        key: random key.
        kind: "skip_gram", "cbow", "order", "lbl", "nnlm" or "cw".
        vocabulary: V.
        width: D.
        window: words on each side that a context holds; "skip_gram" and "cbow" do not depend on it.

    Returns:
        ``input/embedding`` [V, D]; ``output/embedding`` [V, D], for "order" [V, 2 window D]. "lbl" and "nnlm"
        have ``hidden/kernel`` [2 window D, D]. "cw" has no output table but ``hidden/kernel``
        [(2 window + 1) D, D] and ``hidden/score`` [D].

    Raises:
        ValueError: for another kind.

    References:
        S. Lai, arXiv:1611.05962; the start values are those of its released trainers.
    """
    _check_kind(kind)
    keys = jax.random.split(key, 3)
    places = {"order": 2 * window, "cw": 2 * window + 1}.get(kind, 2 * window)

    def draw(key, *shape):
        return jax.random.uniform(key, shape, minval=-0.5, maxval=0.5) / width

    params = {"input": {"embedding": draw(keys[0], vocabulary, width)}}
    if kind != "cw":
        wide = places * width if kind == "order" else width
        params["output"] = {"embedding": jnp.zeros((vocabulary, wide))}
    if kind in ("lbl", "nnlm", "cw"):
        params["hidden"] = {"kernel": draw(keys[1], places * width, width)}
    if kind == "cw":
        params["hidden"]["score"] = draw(keys[2], width)
    return params


def word_scores(params, contexts, targets, *, kind, mask=None):
    """Word models: how well each target word fits its context, by one of six.

    With E the input rows of the context, V the output row of a target t and H the kernel:
    "skip_gram" ``E . V``, of a single context word; "cbow" ``mean(E) . V``; "order" ``concat(E) . V``;
    "lbl" ``(concat(E) H) . V``; "nnlm" ``tanh(concat(E) H) . V``; "cw" ``v . tanh(concat(E with E[t] in the
    middle) H)``.

    >>> rows = {"embedding": jnp.array([[1.0, 0.0], [0.0, 2.0]])}
    >>> params = {"input": rows, "output": rows}
    >>> print(word_scores(params, jnp.array([[0, 1]]), jnp.array([[0, 1]]), kind="cbow"))
    [[0.5 2. ]]

    Args:
        params: of :func:`init_word_scores`, with the same kind; or their rows of one batch, as
            ``tables.row_update`` hands them over.
        contexts: int [B, C], rows of the input table, left to right. "skip_gram" takes C = 1, which is one
            pair; all but "cbow" take the C = 2 window of their kernels. "cbow" takes any number: the rows of
            the words around with those of their n-grams make it fastText's.
        targets: int [B, 1 + K], for example the word of the place and K negatives.
        kind: as in :func:`init_word_scores`.
        mask: optional bool [B, C]. False marks places outside of the text; their row reads as zero.

    Returns:
        [B, 1 + K], for :func:`negative_sampling` or :func:`word_hinge`.

    Raises:
        ValueError: for another kind, or a context of another width than the kernels.

    References:
        S. Lai, arXiv:1611.05962 (all six in one trainer); T. Mikolov et al., arXiv:1301.3781 and 1310.4546;
        A. Mnih and G. Hinton, doi:10.1145/1273496.1273577; Y. Bengio et al., JMLR 2003; R. Collobert and
        J. Weston, doi:10.1145/1390156.1390177. The released trainers put word 0 in the place of a missing
        one; here it reads as zero.
    """
    _check_kind(kind)
    contexts, targets = on_device("contexts", contexts), on_device("targets", targets)
    check_shape("contexts", contexts, (None, 1 if kind == "skip_gram" else None))
    check_shape("targets", targets, (len(contexts), None))
    mask = jnp.ones(contexts.shape, bool) if mask is None else jnp.asarray(mask, bool)
    check_shape("mask", mask, contexts.shape)
    table = params["input"]["embedding"]
    rows = jnp.where(mask[..., None], table[contexts], 0)
    if kind == "cw":
        return _middle_scores(params["hidden"], rows, table[targets])
    outputs = params["output"]["embedding"][targets]
    if kind == "cbow":
        hidden = masked_mean(rows, mask)
    else:
        hidden = rows.reshape(len(rows), -1)
    if kind in ("lbl", "nnlm"):
        _check_kernel(params["hidden"]["kernel"], hidden.shape[1])
        hidden = jnp.dot(hidden, params["hidden"]["kernel"], precision="highest")
    elif hidden.shape[1] != outputs.shape[2]:
        raise ValueError(f"contexts: make {hidden.shape[1]} numbers; the output rows have {outputs.shape[2]}")
    hidden = jnp.tanh(hidden) if kind == "nnlm" else hidden
    return jnp.einsum("bd,bkd->bk", hidden, outputs, precision="highest")


def _middle_scores(hidden, rows, targets):
    """C&W: the target stands in the middle of its context [B, C, D]; a vector reads the hidden layer."""
    batch, places, width = rows.shape
    _check_kernel(hidden["kernel"], (places + 1) * width)
    kernel, half = hidden["kernel"].reshape(places + 1, width, -1), places // 2
    around = jnp.concatenate([kernel[:half], kernel[half + 1 :]])
    sides = jnp.einsum("bcd,cdh->bh", rows, around, precision="highest")
    middle = jnp.einsum("bkd,dh->bkh", targets, kernel[half], precision="highest")
    return jnp.einsum("bkh,h->bk", jnp.tanh(sides[:, None] + middle), hidden["score"], precision="highest")


def _check_kind(kind):
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose one of {KINDS}")


def _check_kernel(kernel, width):
    if len(kernel) != width:
        raise ValueError(f"contexts: make {width} numbers; the kernel takes {len(kernel)}")


def negative_sampling(scores, where=None):
    """Negative sampling: tells the true word of column 0 from words drawn as noise, by logistic regression.

    ``loss = softplus(-scores[:, 0]) + sum over k of softplus(scores[:, k])``. With K negatives drawn from q,
    skip-gram's best scores are ``log p(t | c) - log q(t) - log K``: a shifted pointwise mutual information.

    >>> print(negative_sampling(jnp.array([[0.0, 0.0, 0.0]])).round(3))
    [2.079]

    Args:
        scores: [B, 1 + K].
        where: optional bool [B, 1 + K]. False drops a column: a negative that is the target itself, say.

    Returns:
        [B], in at least float32.

    References:
        T. Mikolov et al., arXiv:1310.4546; O. Levy and Y. Goldberg, NeurIPS 2014.
    """
    scores = jnp.asarray(scores)
    check_shape("scores", scores, (None, None))
    wide = scores.astype(accumulator(scores))
    signed = wide.at[:, 0].multiply(-1)
    terms = jax.nn.softplus(signed)
    return jnp.sum(terms if where is None else jnp.where(where, terms, 0), axis=1)


def word_hinge(scores, where=None):
    """Collobert and Weston's ranking hinge: the true word of column 0 is ahead of each noise word by 1.

    ``loss = sum over k of max(0, 1 - scores[:, 0] + scores[:, k])``

    >>> print(word_hinge(jnp.array([[2.0, 1.5, -3.0]])))
    [0.5]

    Args:
        scores: [B, 1 + K].
        where: optional bool [B, 1 + K]. False drops a negative.

    Returns:
        [B], in at least float32.

    References:
        R. Collobert and J. Weston, doi:10.1145/1390156.1390177.
    """
    scores = jnp.asarray(scores)
    check_shape("scores", scores, (None, None))
    wide = scores.astype(accumulator(scores))
    terms = jnp.maximum(0, 1 - wide[:, :1] + wide[:, 1:])
    return jnp.sum(terms if where is None else jnp.where(where[:, 1:], terms, 0), axis=1)


def huffman(counts):
    """Huffman tree of words: frequent words get short codes. Runs on the host.

    The two rarest nodes are joined again and again; of two joined ones the rarer is the branch of bit 0.
    Ties go to the node that is older. The root is the last inner node.

    >>> codes, points, mask = huffman([5, 2, 1])
    >>> print([codes[w][mask[w]].tolist() for w in range(3)], points[2][mask[2]])
    [[1], [0, 1], [0, 0]] [1 0]

    Args:
        counts: V positive numbers.

    Returns:
        codes int8 [V, L], the branch at each inner node on the way from the root; points int32 [V, L], the
        inner nodes, 0 to V - 2; mask bool [V, L], False behind the end of a code.

    Raises:
        ValueError: for fewer than 2 words.

    References:
        D. Huffman, doi:10.1109/JRPROC.1952.273898; F. Morin and Y. Bengio, AISTATS 2005.
    """
    counts = np.asarray(counts)
    size = len(counts)
    if size < 2:
        raise ValueError(f"counts: {size} words; a tree needs at least 2")
    weights = np.concatenate([np.sort(counts), np.zeros(size - 1, counts.dtype)])
    order = np.argsort(counts, kind="stable")
    parent, branch = np.zeros(2 * size - 1, np.int64), np.zeros(2 * size - 1, np.int8)
    leaf, inner = 0, size
    for node in range(size, 2 * size - 1):
        for bit in (0, 1):
            first = leaf < size and (inner >= node or weights[leaf] <= weights[inner])
            child = leaf if first else inner
            leaf, inner = (leaf + 1, inner) if first else (leaf, inner + 1)
            parent[child], branch[child] = node, bit
            weights[node] += weights[child]
    return _paths(parent, branch, order, size)


def _paths(parent, branch, order, size):
    """The ways from the root to every leaf, all leaves at once, one level after the other."""
    node, root, bits, nodes = np.arange(size), 2 * size - 2, [], []
    while (node != root).any():
        bits.append(np.where(node == root, -1, branch[node]))
        node = np.where(node == root, root, parent[node])
        nodes.append(node - size)
    bits, nodes = np.stack(bits[::-1], 1), np.stack(nodes[::-1], 1)
    mask = bits >= 0
    begin = np.argsort(~mask, axis=1, kind="stable")  # the ways begin at different columns: shift them
    codes, points, mask = (np.take_along_axis(x, begin, 1) for x in (bits, nodes, mask))
    found = np.zeros_like(codes), np.zeros_like(points), np.zeros_like(mask)
    for out, x in zip(found, (codes, points, mask), strict=True):
        out[order] = np.where(mask, x, 0)
    return found[0].astype(np.int8), found[1].astype(np.int32), found[2]


def hierarchical_softmax(hidden, nodes, codes, points, mask):
    """Hierarchical softmax: the probability of a word is that of the turns on its way through a tree.

    ``loss = -sum over j of log sigmoid((1 - 2 code_j) nodes[point_j] . hidden)``. The probabilities of all
    words sum to 1, and a word costs as many products as its code has bits.

    >>> codes, points, mask = huffman([5, 2, 1])
    >>> loss = hierarchical_softmax(jnp.zeros((3, 4)), jnp.zeros((2, 4)), codes, points, mask)
    >>> print(jnp.exp(-loss))
    [0.5  0.25 0.25]

    Args:
        hidden: [B, D].
        nodes: [V - 1, D], a vector for each inner node of the tree.
        codes, points, mask: [B, L], the rows of :func:`huffman` of the B words that are asked for.

    Returns:
        [B], in at least float32.

    References:
        F. Morin and Y. Bengio, AISTATS 2005; T. Mikolov et al., arXiv:1301.3781.
    """
    points = on_device("points", points)
    check_shape("points", points, (len(hidden), None))
    scores = jnp.einsum("bd,bld->bl", hidden, nodes[points], precision="highest")
    scores = scores.astype(accumulator(hidden))
    terms = jax.nn.softplus(jnp.where(jnp.asarray(codes) == 1, scores, -scores))
    return jnp.sum(jnp.where(jnp.asarray(mask), terms, 0), axis=1)


def init_glove(key, vocabulary, width):
    """GloVe: draws the params of :func:`glove_loss`, uniform within 0.5 / D.

    >>> print(jax.tree.map(jnp.shape, init_glove(jax.random.key(0), 10, 4))["input"])
    {'bias': (10, 1), 'embedding': (10, 4)}

    Args:
        key: random key.
        vocabulary: V.
        width: D.

    Returns:
        ``input`` and ``output``, each with ``embedding`` [V, D] and ``bias`` [V, 1]. The vectors of the words
        are the sums of both embeddings.
    """
    shapes = {"embedding": (vocabulary, width), "bias": (vocabulary, 1)}

    def draw(key):
        keys = jax.random.split(key, len(shapes))
        pairs = zip(shapes.items(), keys, strict=True)
        return {n: jax.random.uniform(k, s, minval=-0.5, maxval=0.5) / width for (n, s), k in pairs}

    return dict(zip(("input", "output"), map(draw, jax.random.split(key)), strict=True))


def glove_loss(params, rows, columns, counts, *, limit=100.0, power=0.75):
    """GloVe: the product of two words is the logarithm of how often they stand together.

    ``loss = 1/2 min(1, counts / limit)**power (E[i] . V[j] + b[i] + c[j] - log counts)**2``; a count of 0 has
    weight 0, so padding costs nothing.

    >>> params = {n: {"embedding": jnp.zeros((2, 3)), "bias": jnp.zeros((2, 1))} for n in ("input", "output")}
    >>> print(glove_loss(params, jnp.array([0]), jnp.array([1]), jnp.array([jnp.e]), limit=1.0))
    [0.5]

    Args:
        params: of :func:`init_glove`.
        rows, columns: int [B], words.
        counts: [B], of ``data.cooccurrence``.
        limit: count from which on the weight is 1.
        power: of the weight.

    Returns:
        [B], in at least float32.

    References:
        J. Pennington et al., doi:10.3115/v1/D14-1162.
    """
    rows, columns = on_device("rows", rows), on_device("columns", columns)
    counts = jnp.asarray(counts)
    check_shape("columns", columns, rows.shape)
    check_shape("counts", counts, rows.shape)
    one, two = params["input"], params["output"]
    products = jnp.einsum("bd,bd->b", one["embedding"][rows], two["embedding"][columns], precision="highest")
    products = products + one["bias"][rows, 0] + two["bias"][columns, 0]
    seen = counts > 0
    apart = products - jnp.log(jnp.where(seen, counts, 1))
    weight = jnp.where(seen, jnp.minimum(1, counts / limit) ** power, 0)
    return 0.5 * weight * apart.astype(accumulator(apart)) ** 2
