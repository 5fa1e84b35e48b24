"""Methods that store integers or codes: INT8 and INT16, learned steps, product codes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.checks import check_whole
from jaxembed.tables.factorized import TABLE, own_rows
from jaxembed.tables.lookup import narrow
from jaxembed.tables.methods import at_once, counted_bytes, plain_settings, row_method, values_of

KINDS = {8: jnp.int8, 16: jnp.int16}
STEP = "step/embedding"


def integer_table(sizes, width, *, bits=8, step=0.01, initialiser=None):
    """INT8 or INT16 table: holds integers in training and in use; a number is ``step`` times its integer.

    Train it with :func:`~jaxembed.tables.integer_update`, which rounds by chance.

    >>> from jaxembed.tables import storage_bytes
    >>> m = integer_table(100, 16, step=0.5, initialiser=lambda key, shape: jnp.ones(shape))
    >>> params = m.init(jax.random.key(0))
    >>> print(params["table"]["embedding"][0, :3], m.vectors(params, np.array([0]))[0, :3], storage_bytes(m))
    [2 2 2] [1. 1. 1.] 1604

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        bits: 8 or 16.
        step: distance of neighbouring numbers; those beyond ``step * 2**(bits - 1)`` are clipped.
        initialiser: of the numbers, as in :func:`~jaxembed.tables.full_table`; they are rounded by chance.

    Returns:
        :class:`~jaxembed.tables.Method`; a list of touched rows is read as floats.

    Raises:
        ValueError: for another number of bits, or a step that is not above 0.

    References:
        H. Guan et al., arXiv:1911.02079 (quantised tables); S. Gupta et al., arXiv:1502.02551.
    """
    return _integers("integer_table", sizes, width, bits, step, initialiser, learned=False)


def alpt(sizes, width, *, bits=8, step=0.01, initialiser=None):
    """ALPT (adaptive low-precision training): an integer table whose rows learn their steps.

    ``e = step[x] * table[x]``. Train it with :func:`~jaxembed.tables.integer_update`, which moves the steps
    as LSQ does.

    >>> from jaxembed.tables import storage_bytes
    >>> storage_bytes(alpt(100, 16))
    2000

    Args:
        sizes: number of values, or {feature: number of values}.
        width: width D of the vectors.
        bits: 8 or 16.
        step: first step of every row.
        initialiser: as in :func:`integer_table`.

    Returns:
        :class:`~jaxembed.tables.Method`; a list of touched rows is read as floats.

    Raises:
        ValueError: as :func:`integer_table`.

    References:
        S. Li et al., arXiv:2212.05735.
    """
    return _integers("alpt", sizes, width, bits, step, initialiser, learned=True)


def _integers(name, sizes, width, bits, step, initialiser, learned):
    values = values_of(sizes)
    check_whole(1, width=width)
    if bits not in KINDS:
        raise ValueError(f"bits={bits}; choose 8 or 16")
    if not (np.isfinite(step) and step > 0):
        raise ValueError(f"step={step}; give a number above 0")
    draw = initialiser or jax.nn.initializers.truncated_normal(width**-0.5)

    def init(key):
        numbers = draw(key, (values.total, width))
        table = round_to_step(jax.random.fold_in(key, 1), numbers, jnp.float32(step), KINDS[bits])
        steps = {"step": {"embedding": jnp.full((values.total, 1), step, jnp.float32)}} if learned else {}
        return {"table": {"embedding": table}} | steps

    def codes(numbers, index):
        found = own_rows(numbers)
        return found | ({STEP: found[TABLE]} if learned else {})

    def read(params, codes, key):
        table, steps = params["table"]["embedding"], step
        if learned:
            steps = params["step"]["embedding"]
        elif "step" in params:
            steps = params["step"]["size"]

        def gather(rows):
            rows = narrow(rows[:, 0])
            inside = jnp.where(rows < 0, len(table), rows)
            found = table.at[inside].get(mode="fill", fill_value=0)
            if jnp.issubdtype(table.dtype, jnp.floating):  # the rows of a batch, in training
                return found
            scale = steps.at[inside].get(mode="fill", fill_value=0) if learned else steps
            return found.astype(jnp.float32) * scale

        return at_once(gather, codes[TABLE])

    def deploy(params):
        return params if learned else params | {"step": {"size": jnp.float32(step)}}

    settings = plain_settings(name, sizes, width) | {"bits": int(bits), "step": float(step)}
    method = row_method(settings, values, init, codes, read, deploy=deploy)
    held = 0 if learned else 4  # the step that all rows share
    return method._replace(bytes=lambda params: counted_bytes(params) + (0 if "step" in params else held))


def round_to_step(key, values, step, dtype):
    """Stochastic rounding to multiples of a step: the mean of what comes out is the number itself.

    ``q = clip(floor(values / step + u))`` with u uniform in [0, 1); a key of None rounds to the nearest.

    >>> q = round_to_step(jax.random.key(0), jnp.full(10_000, 0.25), 1.0, jnp.int8)
    >>> print(jnp.unique(q), q.mean().round(2))
    [0 1] 0.25

    Args:
        key: random key, or None.
        values: float [...], finite.
        step: above 0, broadcast to the values.
        dtype: jnp.int8 or jnp.int16, whose range clips.

    Returns:
        [...] of that dtype.

    Raises:
        ValueError: for NaN or infinity, where the values are known; under jit they become 0.

    References:
        S. Gupta et al., arXiv:1502.02551.
    """
    finite = jnp.all(jnp.isfinite(values))
    if not isinstance(finite, jax.core.Tracer) and not finite:
        raise ValueError("values: hold NaN or infinite numbers; integers have no place for them, drop them")
    info, scaled = jnp.iinfo(dtype), values / step
    scaled = jnp.where(jnp.isfinite(scaled), scaled, 0)
    rounded = jnp.round(scaled) if key is None else jnp.floor(scaled + jax.random.uniform(key, scaled.shape))
    return jnp.clip(rounded, info.min, info.max).astype(dtype)


def round_learned(values, step, dtype):
    """LSQ rounding: to multiples of a step, with a gradient for the step.

    ``step * round(clip(values / step, low, high))``. The gradient to values is 1 inside the range, else 0.
    That to the step is ``round(v / step) - v / step`` inside, else the end of the range.

    >>> slope = jax.grad(lambda s: round_learned(jnp.array(0.75), s, jnp.int8))(0.5)
    >>> print(round_learned(jnp.array(0.75), 0.5, jnp.int8), slope)
    1.0 0.5

    Args:
        values: float [...].
        step: above 0, broadcast to the values.
        dtype: jnp.int8 or jnp.int16, whose range clips.

    Returns:
        float [...].

    References:
        S. Esser et al., arXiv:1902.08153.
    """
    info = jnp.iinfo(dtype)
    clipped = jnp.clip(values / step, info.min, info.max)
    return (clipped + jax.lax.stop_gradient(jnp.round(clipped) - clipped)) * step
