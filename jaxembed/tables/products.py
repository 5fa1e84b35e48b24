"""Methods that compute vectors: tensor trains and deep hashes."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.checks import check_whole
from jaxembed.hashing import mix
from jaxembed.tables.lookup import rows_of
from jaxembed.tables.methods import at_once, plain_settings, row_method, values_of

CORES = tuple(f"core_{k}/embedding" for k in range(3))


def tensor_train(sizes, width, *, rank, initialiser=None):
    """TT-Rec (tensor train): the vector is a product of three small matrices, one for each digit of an id.

    ``e = reshape(G0[i0] G1[i1] G2[i2])`` with ``x = i0 + n0 (i1 + n1 i2)`` and width d0 d1 d2; G0[i0] is [d0,
    rank], G1[i1] is [rank, d1 rank], G2[i2] is [rank, d2].

    >>> m = tensor_train(1000, 16, rank=4)
    >>> print(tt_shape(1000, 16), m.codes(np.array([123]))["core_2/embedding"]["values"].ravel())
    ((10, 10, 10), (2, 2, 4)) [1]

    Args:
        sizes: number of values, or {feature: number of values}, which are numbered through
            (:func:`~jaxembed.tables.per_feature` gives every feature a train of its own).
        width: width D of the vectors.
        rank: R of both links.
        initialiser: ``(key, shape) -> array`` of the cores. The default is a truncated normal for which the
            vectors have the deviation 1/sqrt(width) of a full table.

    Returns:
        :class:`~jaxembed.tables.Method`. Its cores have about ``N**(1/3)`` rows each, of which a batch
        touches most: a dense rule is right. Lookups cost ``2 D R**2 / d2 + 2 D R`` operations for each id.

    Raises:
        ValueError: for sizes, a width or a rank below 1.

    References:
        C. Yin et al., TT-Rec, arXiv:2101.11714, which draws cores away from zero instead.
    """
    values = values_of(sizes)
    check_whole(1, width=width, rank=rank)
    digits, parts = tt_shape(values.total, width)
    rows = (parts[0] * rank, rank * parts[1] * rank, rank * parts[2])
    if initialiser is None:  # an entry is a sum of rank**2 products of three entries
        deviation = (width**-0.5 / rank) ** (1 / 3)
        initialiser = jax.nn.initializers.truncated_normal(deviation / TRUNCATED)

    def init(key):
        drawn = [
            initialiser(k, (n, r)) for k, n, r in zip(jax.random.split(key, 3), digits, rows, strict=True)
        ]
        return {f"core_{k}": {"embedding": core} for k, core in enumerate(drawn)}

    def codes(numbers, index):
        found = {path: {} for path in CORES}
        for name, x in numbers.items():
            xp = jnp if isinstance(x, jax.Array) else np
            for path, size in zip(CORES, (digits[0], digits[1], None), strict=True):
                digit, x_next = (x, x) if size is None else (x % size, x // size)
                found[path][name] = xp.where(numbers[name] < 0, -1, digit).astype(np.int32)[..., None]
                x = x_next
        return found

    def contract(places):
        a, b, c = places
        a = a.reshape(-1, parts[0], rank)
        b = b.reshape(-1, rank, parts[1] * rank)
        c = c.reshape(-1, rank, parts[2])
        ab = jnp.einsum("mdr,mrs->mds", a, b, precision="highest").reshape(-1, parts[0] * parts[1], rank)
        return jnp.einsum("mer,mrf->mef", ab, c, precision="highest").reshape(-1, width)

    def read(params, codes, key):
        joined = {
            n: jnp.concatenate([jnp.asarray(codes[p][n]) for p in CORES], axis=-1) for n in codes[CORES[0]]
        }
        tables = [params[path.partition("/")[0]]["embedding"] for path in CORES]
        return at_once(
            lambda found: contract([rows_of(t, found[:, k], signed=False) for k, t in enumerate(tables)]),
            joined,
        )

    return row_method(
        plain_settings("tensor_train", sizes, width) | {"rank": int(rank)}, values, init, codes, read
    )


TRUNCATED = 0.8796256610342398  # standard deviation that truncation at two deviations leaves of 1


def tt_shape(size, width):
    """Tensor train, shape: how many values and coordinates each of the three cores has.

    ``n2 = ceil(size**(1/3))``, ``n1 = ceil(sqrt(size / n2))``, ``n0 = ceil(size / (n1 n2))``. The factors of
    the width are as equal as they can be, the largest last.

    >>> print(tt_shape(3000, 16), tt_shape(1, 6))
    ((14, 15, 15), (2, 2, 4)) ((1, 1, 1), (1, 2, 3))

    Args:
        size: number of values N.
        width: D.

    Returns:
        ((n0, n1, n2), (d0, d1, d2)). Cores of rank r are tables [n0, d0 r], [n1, r d1 r] and [n2, r d2].
    """
    last = next(n for n in range(max(1, round(size ** (1 / 3)) - 1), size + 1) if n**3 >= size)
    middle = math.isqrt(-(-size // last) - 1) + 1
    first = -(-size // (last * middle))
    found = min(
        ((a, b, width // (a * b)) for a in _divisors(width) for b in _divisors(width // a)),
        key=lambda d: (sum(d), d) if d[0] <= d[1] <= d[2] else (math.inf, d),
    )
    return (first, middle, last), found


def _divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


def dhe(sizes, width, *, hidden, hashes=1024, layers=5, encoding="uniform", seed=0):
    """DHE (deep hash embedding): no table; a network turns many hashes of an id into its vector.

    ``u[j] = mix(x XOR salt[j]) / 2**32``, encoded as ``2 u - 1``, or in pairs as two normal numbers
    (Box-Muller). Then ``layers`` times ``h <- mish(norm(h K + b))``, with a norm over the units of an
    example, and one linear layer.

    >>> m = dhe(10**6, 16, hidden=8, hashes=32)
    >>> found = m.vectors(m.init(jax.random.key(0)), np.array([5, 6]))
    >>> print(found.shape, m.codes)
    (2, 16) None

    Args:
        sizes: number of values, or {feature: number of values}, which are numbered through
            (:func:`~jaxembed.tables.per_feature` gives every feature a network of its own).
        width: width D of the vectors.
        hidden: units w of every hidden layer.
        hashes: k, even with "normal".
        layers: number of hidden layers.
        encoding: "uniform" or "normal".
        seed: varies the hashes.

    Returns:
        :class:`~jaxembed.tables.Method`. It reads no rows: every step trains the whole network.
        ``2 (k w + (layers - 1) w**2 + w D)`` operations for each id; salts are computed, not stored.

    Raises:
        ValueError: for numbers below 1, or another encoding.

    References:
        W.-C. Kang et al., arXiv:2010.10784, with linear hashes and batch norm. Here it is layer norm, so that
        a vector depends on its id alone. Products of large ids overflow in 32 bits, this hash does not.
    """
    values = values_of(sizes)
    check_whole(1, width=width, hidden=hidden, hashes=hashes, layers=layers)
    if encoding not in ("uniform", "normal") or (encoding == "normal" and hashes % 2):
        raise ValueError(
            f"encoding={encoding!r}; choose 'uniform', or 'normal' with an even number of hashes"
        )
    shapes = [(hashes, hidden), *[(hidden, hidden)] * (layers - 1)]
    salts = mix(np.arange(hashes, dtype=np.uint32) + np.uint32(0x9E3779B9) * np.uint32(seed + 1))

    def init(key):
        keys, params = jax.random.split(key, layers + 1), {}
        for i, shape in enumerate(shapes):
            kernel = jax.nn.initializers.he_normal()(keys[i], shape)
            zeros, ones = jnp.zeros(hidden), jnp.ones(hidden)
            params[f"layer_{i}"] = {"kernel": kernel, "bias": zeros, "scale": ones, "shift": zeros}
        kernel = jax.nn.initializers.normal((width * hidden) ** -0.5)(keys[-1], (hidden, width))
        return params | {"out": {"kernel": kernel, "bias": jnp.zeros(width)}}

    def compute(params, numbers):
        h = hash_codes(numbers, salts, encoding)
        for i in range(layers):
            layer = params[f"layer_{i}"]
            h = _normed(h @ layer["kernel"] + layer["bias"]) * layer["scale"] + layer["shift"]
            h = h * jnp.tanh(jax.nn.softplus(h))
        found = h @ params["out"]["kernel"] + params["out"]["bias"]
        return jnp.where(numbers[:, None] < 0, 0, found)

    settings = plain_settings("dhe", sizes, width) | {"hidden": int(hidden), "hashes": int(hashes)}
    method = row_method(
        settings | {"layers": int(layers), "encoding": encoding, "seed": int(seed)},
        values,
        init,
        lambda numbers, index: {"": {n: x[..., None] for n, x in numbers.items()}},
        lambda params, codes, key: at_once(lambda rows: compute(params, rows[:, 0]), codes[""]),
    )
    return method._replace(codes=None, read=None)


def hash_codes(numbers, salts, encoding):
    """Dense hash codes: many hashes of a number, as coordinates that look drawn at random.

    >>> print(hash_codes(jnp.array([7]), np.array([1, 2], np.uint32), "uniform").shape)
    (1, 2)

    Args:
        numbers: integers [M].
        salts: uint32 [k].
        encoding: "uniform", in [-1, 1), or "normal", of deviation 1.

    Returns:
        float32 [M, k].
    """
    hashed = mix(jnp.asarray(numbers).astype(jnp.uint32)[:, None] ^ jnp.asarray(salts))
    u = (hashed >> 8).astype(jnp.float32) / 2**24  # as many bits as float32 holds exactly
    if encoding == "uniform":
        return 2 * u - 1
    radius, angle = jnp.split(u, 2, axis=1)
    radius = jnp.sqrt(-2 * jnp.log1p(-radius))
    return jnp.concatenate(
        [radius * jnp.cos(2 * jnp.pi * angle), radius * jnp.sin(2 * jnp.pi * angle)], axis=1
    )


def _normed(h):
    centred = h - jnp.mean(h, axis=1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 1e-5)
