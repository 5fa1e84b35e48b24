"""Fields, their vectors, and models by name."""

import functools

import jax
import jax.flatten_util
import numpy as np
import oracles_ctr

from jaxembed import encoders

B, F, D, N = 4, 5, 3, 2
WIDTH = F * D + N
RNG = np.random.default_rng(3)
VECTORS = RNG.normal(size=(B, F, D)).astype(np.float32)
DENSE = RNG.normal(size=(B, N)).astype(np.float32)
LINEAR = RNG.normal(size=(B, F)).astype(np.float32)
X = RNG.normal(size=(B, 6)).astype(np.float32)
CROSS = {
    "full": {},
    "vector": {},
    "low_rank": {"rank": 2},
    "mixture": {"rank": 2, "experts": 3},
}
BIAS = jax.nn.initializers.normal(0.5)


def wide(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def models():
    """{name: (init(key), apply(params, vectors, dense, linear), oracle of the same arguments)}."""
    deep = {"hidden": (4, 3), "bias_init": BIAS}
    found = {
        "deepfm": (
            lambda key: encoders.init_deepfm(key, F, D, dense=N, **deep),
            lambda params, v, d, linear, **k: encoders.deepfm(params, v, d, linear=linear, **k),
            oracles_ctr.deepfm,
        ),
        "dlrm": (
            lambda key: encoders.init_dlrm(key, F, D, dense=N, bottom=(4,), top=(4, 3)),
            lambda params, v, d, _, **k: encoders.dlrm(params, v, d, **k),
            lambda params, v, d, _: oracles_ctr.dlrm(params, v, d),
        ),
    }
    for kind in CROSS:
        parallel = kind in ("low_rank", "mixture")
        found[f"dcn {kind}"] = (
            lambda key, kind=kind, parallel=parallel: encoders.init_dcn(
                key, WIDTH, layers=2, kind=kind, parallel=parallel, **CROSS[kind], **deep
            ),
            lambda params, v, d, _, **k: encoders.dcn(params, v, d, **k),
            lambda params, v, d, _, parallel=parallel: oracles_ctr.dcn(params, v, d, parallel),
        )
    return found


MODELS = models()


# Models


@functools.cache
def drawn(name):
    return jax.jit(MODELS[name][0])(jax.random.key(4))
