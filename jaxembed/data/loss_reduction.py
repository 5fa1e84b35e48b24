"""What a text is worth for a target: how much a model's loss on it falls, and what finding out costs."""

import numpy as np

from jaxembed.checks import refuse_nan
from jaxembed.data.select import read, rows_kept

COSTS = ("color", "conditional", "rho", "rho_prior", "random")


def conditional_loss_reduction(marginal, conditional, *, mask=None):
    """Conditional loss reduction: how much less a text surprises a model that knows the target.

    ``score = mean(marginal) - mean(conditional)``, larger is better. The pair of models is the method.
    The prior is trained on a random slice of the pool, the tuned prior on the target after that.

    | method | marginal | conditional |
    |---|---|---|
    | CoLoR-Filter | the prior | the tuned prior |
    | Moore-Lewis | the prior | a model of the target alone |
    | conditional only | None | the tuned prior |
    | RHO | the model in training, see :func:`rho_rows` | a model of the target |

    Equal models score 0. A constant that is added to the losses of a model does not change the order.

    >>> print(conditional_loss_reduction([3.0, 2.0], [1.0, 2.5]))
    [ 2.  -0.5]

    Args:
        marginal: [N] losses of texts, in nats; or [N, T] losses of their tokens; None counts as 0.
        conditional: of the same shape. Both models read the texts in the same packing and precision.
        mask: for losses of tokens, bool [N, T], True = a token that is predicted. The mean is over these,
            not over the padded length.

    Returns:
        float64 [N].

    Raises:
        ValueError: for shapes that differ, a text without a predicted token, NaN losses of real tokens.

    References:
        D. Brandfonbrener et al., arXiv:2406.10670, which keeps the smallest negative of this;
        R. Moore and W. Lewis, ACL 2010; S. Mindermann et al., arXiv:2206.07137.
    """
    if mask is not None:
        mask = read("mask", mask, (None, None)).astype(bool)
        short = ~mask.any(axis=1)
        if short.any():
            row = int(np.argmax(short))
            raise ValueError(f"mask: row {row} predicts no token; leave out texts of fewer than two tokens")
    conditional = read("conditional", conditional, (None,) if mask is None else mask.shape)
    if marginal is not None:
        marginal = read("marginal", marginal, conditional.shape)
    means = []
    for name, losses in (("marginal", marginal), ("conditional", conditional)):
        losses = np.zeros(len(conditional)) if losses is None else losses.astype(np.float64)
        if mask is not None and losses.ndim == 2:
            losses = np.where(mask, losses, 0).sum(axis=1) / mask.sum(axis=1)
        refuse_nan(name, losses)
        means.append(losses)
    return means[0] - means[1]


def rho_rows(losses, conditional, keep):
    """RHO selection: the rows of a batch that the model in training has still to learn from.

    ``keep`` rows with the largest ``losses - conditional``; inside a jitted step, where the model changes at
    each step. The gradient does not pass. Equal differences go to the lowest row, NaN counts as the lowest.

    >>> import jax.numpy as jnp
    >>> print(rho_rows(jnp.array([2.0, 3.0, 1.0]), jnp.array([1.0, 2.5, 0.2]), 2))
    [0 2]

    Args:
        losses: [B], of the model in training, the marginal.
        conditional: [B], of a model of the target, which stays as it is.
        keep: static int, 1 to B.

    Returns:
        int32 [keep], best first.

    Raises:
        ValueError: for shapes that differ, or a keep outside 1..B.

    References:
        S. Mindermann et al., arXiv:2206.07137; RHO-down of D. Brandfonbrener et al., arXiv:2406.10670.
    """
    import jax
    import jax.numpy as jnp

    from jaxembed.arrays import check_shape

    losses, conditional = jnp.asarray(losses), jnp.asarray(conditional)
    check_shape("losses", losses, (None,))
    check_shape("conditional", conditional, losses.shape)
    keep = rows_kept(keep, len(losses), "keep")
    gain = losses.astype(jnp.float32) - conditional.astype(jnp.float32)
    return jax.lax.top_k(jnp.where(jnp.isnan(gain), -jnp.inf, gain), keep)[1]


def selection_cost(method, *, kept, tau=1, prior=0, ratio=1):
    """Selection cost: the compute of choosing data and of training on it, in forward passes.

    A backward pass counts as two forward passes; one forward pass of the small model over one token (or
    text, or a billion) is the unit, n the kept ones and m those of the prior.

    | method | prior | serial | parallel | training |
    |---|---|---|---|---|
    | color | 3 m | 0 | 2 tau n | 3 n ratio |
    | conditional | 3 m | 0 | tau n | 3 n ratio |
    | rho, rho_prior | 0, 3 m | tau n + 2 n | tau n | 3 n ratio |
    | random | 0 | 0 | 0 | 3 n ratio |

    >>> print(round(selection_cost("color", kept=3, tau=16, prior=3.1, ratio=5.5)["total"], 1))
    154.8

    Args:
        method: "color", "conditional", "rho", "rho_prior" or "random".
        kept: n, above 0.
        tau: at least 1, so many are scored for each that is kept.
        prior: m, at least 0.
        ratio: cost of the trained model over that of the small one, above 0.

    Returns:
        Dict of "prior", "serial", "parallel", "training" and "total".

    Raises:
        ValueError: for another method, or a number out of its range.

    References:
        D. Brandfonbrener et al., arXiv:2406.10670.
    """
    if method not in COSTS:
        raise ValueError(f"method={method!r}; choose one of {COSTS}")
    ranges = {"kept": kept > 0, "tau": tau >= 1, "prior": prior >= 0, "ratio": ratio > 0}
    if not all(ranges.values()):
        name = next(name for name, fits in ranges.items() if not fits)
        raise ValueError(f"{name}: out of range; pass kept and ratio above 0, tau from 1, prior from 0")
    rho, scored = method.startswith("rho"), 0 if method == "random" else tau * kept
    parts = {
        "prior": 0 if method in ("rho", "random") else 3 * prior,
        "serial": scored + 2 * kept if rho else 0,
        "parallel": 2 * scored if method == "color" else scored,
        "training": 3 * kept * ratio,
    }
    return parts | {"total": sum(parts.values())}
