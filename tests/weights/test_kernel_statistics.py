"""Statistics of kernels: formulas, known distributions, limits, and the authors' package."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxembed import encoders, weights

RNG = np.random.default_rng(0)


def slow_quality(kernel):
    """Sparsity, entropy, orthogonality of [kh, kw, in, out] by the paper's formulas, in loops."""
    kernel = np.asarray(kernel, np.float64)
    kh, kw, inputs, outputs = kernel.shape
    slices = [kernel[:, :, i, o].ravel() for i in range(inputs) for o in range(outputs)]
    limit = 0.01 * np.abs(kernel).max() or 1
    sparsity = sum(all(abs(x) < limit for x in s) for s in slices) / len(slices)
    rows = np.stack(slices) - np.mean(slices, axis=0)
    variances = np.linalg.svd(rows, compute_uv=False) ** 2 / (len(rows) - 1)
    shares = [v / variances.sum() for v in variances if v > 1e-12 * variances.sum()]
    entropy = -sum(p * math.log10(p) for p in shares)
    filters = [kernel[..., o].ravel() for o in range(outputs)]
    filters = [f / (np.linalg.norm(f) or 1) for f in filters]
    gaps = sum(abs(a @ b - (i == j)) for i, a in enumerate(filters) for j, b in enumerate(filters))
    return sparsity, entropy, 1 - gaps / (outputs * (outputs - 1))


def drawn(*shape, dead=0):
    """A kernel with some correlation between its numbers, whose first slices are nearly 0."""
    mix = np.random.default_rng(len(shape) + dead).normal(size=(math.prod(shape[:2]),) * 2)
    columns = mix @ RNG.normal(size=(len(mix), math.prod(shape[2:]))) + 0.3
    columns[:, :dead] *= 1e-5
    return columns.reshape(shape).astype(np.float32)


KERNELS = {
    "3 x 3": drawn(3, 3, 6, 8),
    "some dead": drawn(3, 3, 6, 8, dead=20),
    "1 x 3": drawn(1, 3, 4, 8),
    "5 x 5": drawn(5, 5, 3, 32),
    "few": drawn(3, 3, 1, 3),
    "1 x 1": drawn(1, 1, 12, 7),
    "depthwise": drawn(3, 3, 1, 24),
}


@pytest.mark.parametrize("name", KERNELS)
def test_quality_is_that_of_the_formulas(name):
    kernel = KERNELS[name]
    expected = slow_quality(kernel)
    names = ("sparsity", "entropy", "orthogonality")
    on_device = weights.layer_quality(jnp.asarray(kernel))
    np.testing.assert_allclose([on_device[n] for n in names], expected, atol=2e-5)
    compiled = jax.jit(weights.layer_quality)(kernel)
    on_host = weights.model_quality({"kernel": kernel})["kernel"]
    for n in on_device:  # one formula, three ways to run it
        np.testing.assert_allclose([compiled[n], on_host[n]], [on_device[n]] * 2, atol=2e-5)


def test_dead_kernels_are_those_below_the_threshold():
    share, dead = weights.kernel_sparsity(KERNELS["some dead"])
    assert float(share) == pytest.approx(20 / 48) and np.flatnonzero(dead).tolist() == list(range(20))
    found = weights.layer_quality(KERNELS["some dead"])
    live = weights.kernel_rows(KERNELS["some dead"])[20:]
    assert float(found["live entropy"]) == pytest.approx(float(weights.variance_entropy(live)), abs=1e-5)
    assert float(weights.kernel_sparsity(KERNELS["some dead"], threshold=1e-9)[0]) == 0


def test_entropy_of_known_spreads():
    both = np.concatenate([np.eye(9), -np.eye(9)])
    assert float(weights.variance_entropy(both)) == pytest.approx(math.log10(9), abs=1e-6)
    assert float(weights.variance_entropy(both, base=3)) == pytest.approx(2, abs=1e-5)
    four = np.concatenate([np.eye(9)[:4], -np.eye(9)[:4]])
    assert float(weights.variance_entropy(four)) == pytest.approx(math.log10(4), abs=1e-6)
    line = np.arange(12.0)[:, None] * np.arange(1, 10.0)
    assert float(weights.variance_entropy(line)) == pytest.approx(0, abs=1e-4)
    for flat in (np.ones((5, 9)), np.zeros((5, 9)), np.ones((1, 9))):
        assert float(weights.variance_entropy(flat)) == 0


def test_entropy_keeps_to_what_does_not_change_it():
    rows = weights.kernel_rows(KERNELS["3 x 3"])
    entropy = float(weights.variance_entropy(rows))
    turn = np.linalg.qr(RNG.normal(size=(9, 9)))[0]
    for changed in (1e-20 * rows, 1e15 * rows, rows + 0.7, rows @ turn):
        assert float(weights.variance_entropy(changed)) == pytest.approx(entropy, abs=1e-4)


def test_a_mask_is_as_if_rows_were_removed():
    rows, where = weights.kernel_rows(KERNELS["3 x 3"]).copy(), RNG.random(48) < 0.6
    removed = float(weights.variance_entropy(rows[where]))
    rows[~where] = np.nan
    assert float(weights.variance_entropy(rows, where)) == pytest.approx(removed, abs=1e-5)
    assert float(weights.variance_entropy(rows, np.zeros(48, bool))) == 0


def test_entropy_and_orthogonality_can_be_maximised():
    kernel = jnp.asarray(drawn(3, 3, 4, 8))

    def value(kernel):
        found = weights.layer_quality(kernel)
        return found["entropy"] + found["orthogonality"]

    start = float(value(kernel))
    climb = jax.jit(lambda k: k + 10 * jax.grad(value)(k))
    for _ in range(40):
        kernel = climb(kernel)
    assert float(value(kernel)) > start + 0.1
    zeros = jax.grad(lambda k: weights.filter_orthogonality(k))(jnp.zeros((3, 3, 2, 4)).at[..., 0].set(1))
    assert bool(jnp.isfinite(zeros).all())


@pytest.mark.parametrize(("count", "expected"), [(16, 0.7221), (64, 0.9056), (1024, 0.9499), (10**9, 0.9513)])
def test_the_published_threshold(count, expected):
    assert weights.random_entropy(count) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", [3, 9, 25])
def test_random_kernels_reach_the_threshold_and_trained_looking_ones_do_not(size):
    smooth = np.exp(-np.abs(np.subtract.outer(np.arange(size), np.arange(size))) / 3)
    reached, smoothed = [], []
    for _ in range(40):
        rows = RNG.normal(size=(300, size))
        limit = weights.random_entropy(300, size)
        reached.append(float(weights.variance_entropy(rows)) >= limit)
        smoothed.append(float(weights.variance_entropy(rows @ smooth)) >= limit)
    assert np.mean(reached) > 0.9 and not any(smoothed)


def test_our_rule_for_other_sizes_agrees_with_the_published_curve_at_nine():
    from jaxembed.weights import kernel_statistics

    source = kernel_statistics.random_entropy.__wrapped__
    for count in (16, 64, 256, 1024, 4096):
        rng = np.random.default_rng(count)
        entropies = [float(weights.variance_entropy(rng.normal(size=(count, 9)))) for _ in range(200)]
        drawn = min(np.quantile(entropies, 0.01), kernel_statistics.LEVEL * math.log10(9))
        assert drawn == pytest.approx(source(count), abs=0.03 if count < 64 else 0.01)
    found = weights.random_entropy(40, 8)  # Bartlett's factors stand for rows
    rng = np.random.default_rng(1)
    entropies = [float(weights.variance_entropy(rng.normal(size=(40, 8)))) for _ in range(300)]
    assert found == pytest.approx(np.quantile(entropies, 0.01), abs=0.01)


def test_thresholds_that_do_not_exist_are_nan():
    assert math.isnan(weights.random_entropy(1, 9)) and math.isnan(weights.random_entropy(64, 1))


def test_orthogonality_of_known_filters():
    turn = np.linalg.qr(RNG.normal(size=(18, 18)))[0].reshape(3, 3, 2, 18)
    assert float(weights.filter_orthogonality(turn)) == pytest.approx(1, abs=1e-5)
    assert float(weights.filter_orthogonality(np.ones((3, 3, 2, 5)))) == pytest.approx(0, abs=1e-6)
    assert float(weights.filter_orthogonality(np.ones((3, 3, 2, 1)))) == 1
    kernel = drawn(3, 3, 2, 6)
    kernel[..., 0] = 0
    sparsity, entropy, expected = slow_quality(kernel)
    assert float(weights.filter_orthogonality(1e-20 * kernel)) == pytest.approx(expected, abs=1e-5)


def test_filters_are_compared_within_their_group():
    kernel = drawn(3, 3, 2, 8)
    halves = [slow_quality(kernel[..., :4])[2], slow_quality(kernel[..., 4:])[2]]
    assert float(weights.filter_orthogonality(kernel, groups=2)) == pytest.approx(np.mean(halves), abs=1e-5)
    deep = {"deep": {"kernel": drawn(3, 3, 1, 24)}}
    assert weights.model_quality(deep, groups={"deep/kernel": 24})["deep/kernel"]["orthogonality"] == 1
    refused("groups: 3 does not divide 8 filters", lambda: weights.filter_orthogonality(kernel, groups=3))
    refused("groups: 'other' is not among", lambda: weights.model_quality(deep, groups={"other": 1}))


def test_layers_without_weights_are_dead_and_constant_ones_alike():
    tree = {"zero": np.zeros((3, 3, 4, 8)), "same": np.ones((3, 3, 4, 8)), "one": np.zeros((3, 3, 1, 1))}
    found = weights.model_quality({name: {"kernel": x} for name, x in tree.items()})
    zero, same, one = (found[f"{name}/kernel"] for name in tree)
    assert [zero[n] for n in ("sparsity", "entropy", "orthogonality", "degenerate")] == [1, 0, 0, "dead"]
    assert [same[n] for n in ("sparsity", "entropy", "orthogonality", "degenerate")] == [
        0,
        0,
        pytest.approx(0, abs=1e-6),
        "alike",
    ]
    assert [one[n] for n in ("sparsity", "entropy", "degenerate")] == [1, 0, "dead"]


def test_new_nets_are_random_and_layers_of_few_kernels_have_no_verdict():
    params = encoders.convnet([8, 16, encoders.conv(4, kernel=1)], inputs=1).init(jax.random.key(0))
    found = weights.model_quality(params)
    assert [row["degenerate"] for row in found.values()] == ["", "random", ""]  # 8 kernels, 128, of 1 x 1
    assert list(weights.model_quality(params, 1)) == ["stages/stage_2/kernel"]
    assert found["stages/stage_1/kernel"]["shape"] == (3, 3, 8, 16)
    assert math.isnan(found["stages/stage_2/kernel"]["to random"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_weights_are_named_or_stay_nan(bad):
    kernel = drawn(3, 3, 4, 8)
    kernel[1, 1, 2, 3] = bad
    refused("params: 'a/kernel' holds NaN or inf", lambda: weights.model_quality({"a": {"kernel": kernel}}))
    found = jax.jit(weights.layer_quality)(kernel)
    assert all(np.isnan(found[n]) for n in ("sparsity", "entropy", "live entropy", "orthogonality"))
    assert not found["alike"] and not found["random"]
    assert np.isnan(weights.variance_entropy(weights.kernel_rows(kernel)))


def test_bad_input_is_refused_in_one_line():
    dense = {"dense": {"kernel": np.ones((3, 4))}}
    refused("params: no kernels of convolutions; see", lambda: weights.model_quality(dense))
    new = {"conv": {"kernel": np.ones((5, 5, 1, 2))}}
    refused("params: no kernels of convolutions of size 3", lambda: weights.model_quality(new, 3))
    refused(r"rows: shape \(3,\); pass", lambda: weights.variance_entropy(np.ones(3)))
    refused(r"where: shape \(2,\); pass \[3\]", lambda: weights.variance_entropy(np.ones((3, 2)), np.ones(2)))
    refused(r"kernel: shape \(3, 4\)", lambda: weights.layer_quality(np.ones((3, 4))))


@pytest.mark.peers
def test_the_authors_package_finds_the_same():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pytest.importorskip("torchconvquality")
    for name in ("3 x 3", "some dead", "depthwise"):
        kernel = KERNELS[name]
        theirs = peer.measure_conv_weight_quality(torch.tensor(kernel.transpose(3, 2, 0, 1).copy()))
        ours = weights.layer_quality(kernel)
        pairs = {"sparsity": "sparsity", "entropy": "variance_entropy", "orthogonality": "orthogonality"}
        pairs |= {"to random": "variance_entropy_norm", "live entropy": "variance_entropy_clean"}
        np.testing.assert_allclose([ours[n] for n in pairs], [theirs[n] for n in pairs.values()], atol=1e-5)
