"""Pruning: what is cut, equal outputs of cut and masked nets, the graph of a net, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxembed import encoders, losses, train, weights

NETS = {
    "chain": lambda norm: encoders.convnet([8, 12], norm=norm, width=3, inputs=1),
    "residual": lambda norm: encoders.convnet(
        [8, [encoders.residual(8), encoders.residual(12, stride=2)], [encoders.residual(12)]],
        norm=norm,
        width=3,
        inputs=1,
    ),
    "inception": lambda norm: encoders.convnet(
        [8, [encoders.inception(4, (2, 6), None, ("max", None)), encoders.layer("max"), encoders.conv(5)]],
        norm=norm,
        width=3,
        inputs=1,
    ),
    "bare": lambda norm: encoders.convnet([8, 12], norm=norm, inputs=1),
}
X = jax.random.normal(jax.random.key(7), (3, 8, 8, 1))


def made(kind, norm, seed=0):
    """A net and its tree, all numbers random."""
    net = NETS[kind](norm)
    tree = net.init(jax.random.key(seed))
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    drawn = [x + 0.3 * jnp.abs(jax.random.normal(k, x.shape)) for k, x in zip(keys, leaves, strict=True)]
    return net, jax.tree.unflatten(structure, drawn)


def encode(net, tree, **options):
    """What the net gives, as one program: compiling it by pieces would take most of the time here."""
    if isinstance(tree, tuple):
        return jax.jit(lambda tree: net.encode(tree[0], X, state=tree[1], **options))(tree)
    return jax.jit(lambda tree: net.encode(tree, X))(tree)


def masked_tree(tree, graph, masks):
    return jax.jit(lambda tree, masks: weights.mask_channels(tree, graph, masks))(tree, masks)


def half(tree, graph, seed=0):
    """Half of all channels but those of the pictures, at random."""
    rng = np.random.default_rng(seed)
    sizes = {n: s for n, s in weights.channel_sizes(tree, graph).items() if n != "images"}
    return {n: np.sort(rng.choice(s, s // 2, replace=False)) for n, s in sizes.items()}, sizes


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("kind", NETS)
def test_a_masked_net_gives_what_the_cut_one_gives(kind, norm):
    net, tree = made(kind, norm)
    graph = encoders.channel_graph(tree)
    keep, sizes = half(tree, graph)
    small = weights.prune(tree, graph, keep)
    masks = weights.channel_masks(keep, sizes)
    masked = masked_tree(tree, graph, masks)
    found, expected = encode(net, masked), encode(net, small)
    if kind == "bare":  # what was cut is zero
        whole, found = found, found[:, keep["stage_1"]]
        np.testing.assert_array_equal(np.delete(whole, keep["stage_1"], axis=1), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    if norm == "batch":
        both = encode(net, masked, train=True)[0], encode(net, small, train=True)[0]
        found = both[0][:, keep["stage_1"]] if kind == "bare" else both[0]
        np.testing.assert_allclose(found, both[1], rtol=1e-3, atol=1e-3)
    counts = [weights.count_parameters(t) for t in (tree, small)]
    assert counts[1] < 0.6 * counts[0]


@pytest.mark.parametrize("kind", NETS)
def test_all_channels_kept_leave_every_bit(kind):
    _, tree = made(kind, "batch")
    graph = encoders.channel_graph(tree)
    keep = {name: np.arange(size) for name, size in weights.channel_sizes(tree, graph).items()}
    jax.tree.map(np.testing.assert_array_equal, weights.prune(tree, graph, keep), tree)
    masks = weights.channel_masks(keep, weights.channel_sizes(tree, graph))
    jax.tree.map(np.testing.assert_array_equal, weights.mask_channels(tree, graph, masks), tree)


@pytest.mark.parametrize("kind", ["chain", "residual", "inception"])
def test_filters_that_give_nothing_are_cut_without_a_trace(kind):
    net, tree = made(kind, "batch")
    graph = encoders.channel_graph(tree)
    keep, sizes = half(tree, graph)
    dead = masked_tree(tree, graph, weights.channel_masks(keep, sizes))
    np.testing.assert_allclose(
        encode(net, dead), encode(net, weights.prune(dead, graph, keep)), rtol=1e-4, atol=1e-5
    )


def test_masked_numbers_get_no_gradient_and_nan_in_them_no_say():
    net, tree = made("residual", "batch")
    graph = encoders.channel_graph(tree)
    keep, sizes = half(tree, graph)
    masks = weights.channel_masks(keep, sizes)

    def total(params):
        masked = weights.mask_channels((params, tree[1]), graph, masks)
        return jnp.sum(jnp.square(net.encode(masked[0], X, state=masked[1])))

    gradient = jax.jit(jax.grad(total))(tree[0])["stages"]["stage_0"]["kernel"]
    gone = np.setdiff1d(np.arange(8), keep["stage_0"])
    assert not gradient[..., gone].any() and gradient[..., keep["stage_0"]].any()
    broken = jax.tree.map(jnp.array, tree)
    broken[0]["stages"]["stage_0"]["kernel"] = (
        tree[0]["stages"]["stage_0"]["kernel"].at[..., gone].set(jnp.nan)
    )
    np.testing.assert_array_equal(
        encode(net, masked_tree(broken, graph, masks)), encode(net, masked_tree(tree, graph, masks))
    )


def test_selection_pruning_and_masking_run_under_jit_and_vmap():
    net, tree = made("chain", "batch")
    graph = encoders.channel_graph(tree)

    @jax.jit
    def smaller(tree):
        kernel = tree[0]["stages"]["stage_0"]["kernel"]
        keep = {"stage_0": weights.select_filters(weights.filter_l1(kernel), 3)}
        return weights.prune(tree, graph, keep), keep

    small, keep = smaller(tree)
    jax.tree.map(np.testing.assert_array_equal, small, weights.prune(tree, graph, keep))
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), tree, made("chain", "batch", 5)[1])
    many, _ = jax.vmap(smaller)(both)
    jax.tree.map(lambda m, s: np.testing.assert_array_equal(m[0], s), many, small)


def test_one_filter_of_each_layer_is_enough_and_trains():
    net, tree = made("residual", "batch")
    graph = encoders.channel_graph(tree)
    names = [n for n in weights.channel_sizes(tree, graph) if n != "images"]
    small = weights.prune(tree, graph, {name: [1] for name in names})
    batch = {"images": np.asarray(jnp.tile(X, (2, 1, 1, 1))), "labels": np.arange(6) % 3}

    def loss_fn(params, batch, key, state):
        logits, state = net.encode(params, batch["images"], state=state, train=True)
        return losses.softmax_loss(logits, positives=batch["labels"]).mean(), ({}, state)

    given = {"loss_fn": loss_fn, "tx": optax.sgd(0.1), "batches": [batch] * 3, "mesh": train.make_mesh(1)}
    state = train.fit(init=lambda key: jax.tree.map(jnp.copy, small), steps=3, **given)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in ((state.params, state.extra), small)]
    assert shapes[0] == shapes[1] and np.isfinite(encode(net, (state.params, state.extra))).all()


def test_plain_trees_with_depthwise_and_grouped_kernels_and_flattened_maps():
    rng = np.random.default_rng(0)
    shapes = {"stem": (3, 3, 1, 6), "deep": (3, 3, 1, 6), "point": (1, 1, 6, 4), "dense": (16, 2)}
    params = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    graph = {
        "stem": (None, None, None, "a"),
        "deep": (None, None, None, "a"),  # a depthwise kernel has the channels that it reads
        "point": (None, None, "a", "b"),
        "dense": (("b",) * 4, None),  # [B, 2, 2, b] -> [B, 4 * b]
    }

    def run(params, x):
        x = jax.nn.relu(encoders.convolve(params["stem"], x, stride=2))
        x = jax.nn.relu(encoders.convolve(params["deep"], x, stride=2, groups=params["deep"].shape[-1]))
        x = jax.nn.relu(encoders.convolve(params["point"], x))
        return x.reshape(len(x), -1) @ params["dense"]

    keep = {"a": np.array([0, 3, 5]), "b": np.array([2, 3])}
    small = weights.prune(params, graph, keep)
    masked = weights.mask_channels(
        params, graph, weights.channel_masks(keep, weights.channel_sizes(params, graph))
    )
    np.testing.assert_allclose(jax.jit(run)(small, X), jax.jit(run)(masked, X), rtol=1e-4, atol=1e-5)
    assert small["dense"].shape == (8, 2)

    @jax.jit
    def scored(params):
        taps = weights.convolution_taps(run, params, X)
        return {name: weights.activation_spread(**tap) for name, tap in taps.items()}

    scores = scored(params)
    assert {name: s.shape for name, s in scores.items()} == {"stem": (6,), "deep": (6,), "point": (4,)}
    shared = weights.shared_scores(graph, scores)
    both = (weights.min_max(scores["stem"]) + weights.min_max(scores["deep"])) / 2
    np.testing.assert_allclose(shared["a"], both, rtol=1e-6)
    grouped = params | {"point": jnp.ones((1, 1, 3, 4))}
    refused("None to inputs of groups", lambda: weights.prune(grouped, graph, keep))


def test_layers_of_one_sum_have_one_choice():
    _, tree = made("residual", "batch")
    graph = encoders.channel_graph(tree)
    one, other = "0/stages/stage_0/kernel", "0/stages/stage_1/block_0/second/kernel"
    small = weights.prune(tree, graph, {one: [0, 1], other: [0, 1]})
    named = weights.prune(tree, graph, {"stage_0": [0, 1]})
    jax.tree.map(np.testing.assert_array_equal, small, named)
    refused("of one sum and differ", lambda: weights.prune(tree, graph, {one: [0, 1], other: [0, 2]}))
    scores = {path: jnp.arange(8.0) * sign for path, sign in ((one, 1), (other, -1))}
    np.testing.assert_allclose(weights.shared_scores(graph, scores)["stage_0"], 0.5, atol=1e-6)


def test_one_plus_score_multiplies_what_is_kept():
    tree = {"a": jnp.ones((1, 1, 1, 4)), "b": jnp.ones((1, 1, 4, 2)), "dense": jnp.ones((2, 3))}
    graph = {"a": (None, None, None, "x"), "b": (None, None, "x", "y"), "dense": ("y", None)}
    given = {"keep": {"x": [1, 3]}, "scores": {"x": jnp.array([10.0, 20, 30, 40])}}
    own = weights.prune(tree, graph, **given, rescale="own")
    np.testing.assert_array_equal(own["a"].ravel(), [21, 41])
    np.testing.assert_array_equal(own["b"], 1)
    released = weights.prune(tree, graph, **given, rescale="released")
    np.testing.assert_array_equal(released["a"].ravel(), [11, 21])
    np.testing.assert_array_equal(released["b"][0, 0], [[11, 21], [11, 21]])
    np.testing.assert_array_equal(released["dense"], 1)
    refused("rescale: 'own'", lambda: weights.prune(tree, graph, {"x": [0]}, rescale="own"))
    wide = tree | {"b": jnp.ones((1, 1, 4, 5)), "dense": jnp.ones((5, 3))}
    refused("fewer than 5", lambda: weights.prune(wide, graph, **given, rescale="released"))


def test_bad_input_has_one_line():
    tree = {"a": jnp.ones((1, 1, 1, 4)), "b": jnp.ones((1, 1, 4, 2))}
    graph = {"a": (None, None, None, "x"), "b": (None, None, "x", None)}
    for keep in ({"x": []}, {"x": [4]}, {"x": [-1]}, {"x": [1, 1]}, {"x": [0.5]}):
        refused("keep: 'x' has", lambda keep=keep: weights.prune(tree, graph, keep))
    refused("keep: 'y' names no channels", lambda: weights.prune(tree, graph, {"y": [0]}))
    refused("'c' is not among", lambda: weights.prune(tree, graph | {"c": ("x",)}, {"x": [0]}))
    refused("name 4 axes", lambda: weights.prune(tree, graph | {"b": ("x", None)}, {"x": [0]}))
    refused(
        "has 4 channels and 2", lambda: weights.prune(tree, graph | {"b": (None,) * 3 + ("x",)}, {"x": [0]})
    )
    joined = graph | {"b": (None, None, ("x", "x"), None)}
    refused("has 8 channels and 'b' 4", lambda: weights.prune(tree, joined, {"x": [0]}))
    unknown = graph | {"b": (None, None, ("x", "z"), None)}
    refused("name each part", lambda: weights.prune(tree, unknown, {"x": [0]}))
    refused("without a size", lambda: weights.channel_masks({"y": [0]}, {"x": 4}))
    refused("masks", lambda: weights.mask_channels(tree, graph, {"x": [True]}))
    refused("not the tree of a convnet", lambda: encoders.channel_graph(tree))
