import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import published_unets
import pytest

from jaxembed import encoders

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 8, 8, 1)).astype(np.float32)
T = np.array([5, 900])
TOKENS, OTHER = (RNG.normal(size=(2, 3, 6)).astype(np.float32) for _ in range(2))
NET = encoders.unet(8, (1, 2), attention=(2,), context=6, heads=2)
FRESH = NET.init(jax.random.key(0))
PARAMS = published_unets.drawn(NET)
GOLDEN = pathlib.Path(published_unets.__file__).parent / "golden" / "unets.npz"
BLOCKS = range(1, len(NET.blocks) + 1)
denoise = jax.jit(NET.denoise)
features = jax.jit(lambda params, condition: NET.features(params, X, T, BLOCKS, condition))


@pytest.mark.parametrize("name", ["ADM", "LATENT"])
def test_the_network_gives_the_numbers_that_diffusers_gave(name):
    """tests/support/golden_unets.py wrote them."""
    net, (x, t, *_) = getattr(published_unets, name), published_unets.inputs()
    with np.load(GOLDEN, allow_pickle=False) as file:
        expected = file[name.lower()]
    found = jax.jit(net.denoise)(published_unets.drawn(net), x, t, published_unets.condition(net))
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["ADM", "LATENT"])
def test_the_network_is_that_of_diffusers(name):
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    net = getattr(published_unets, name)
    params, (x, t, *_) = published_unets.drawn(net), published_unets.inputs()
    found = jax.jit(net.denoise)(params, x, t, published_unets.condition(net))
    np.testing.assert_allclose(found, published_unets.peer_output(net, params), atol=2e-5)


def test_adm_256_has_the_published_blocks_and_parameters():
    net = encoders.unet(
        256, (1, 1, 2, 2, 4, 4), channels=3, blocks=2, attention=(8, 16, 32), head_width=64, outputs=6
    )
    params = jax.eval_shape(net.init, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == 552_814_086
    assert (net.blocks[0], net.blocks[17:20], len(net.blocks)) == (
        "input_1",
        ("input_18", "middle", "output_1"),
        37,
    )
    x = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    maps = jax.eval_shape(lambda p, x: net.features(p, x, jnp.zeros(1), range(1, 38)), params, x)
    wide = [256] * 7 + [512] * 6 + [1024] * 12 + [512] * 6 + [256] * 6
    side = np.repeat([256, 128, 64, 32, 16, 8, 16, 32, 64, 128, 256], [3, 3, 3, 3, 3, 6, 3, 3, 3, 3, 4])
    for n, (c, s) in enumerate(zip(wide, side, strict=True), 1):
        assert maps[n].shape == (1, s, s, c)


def test_a_fresh_network_gives_zeros_and_its_blocks_are_the_identity():
    np.testing.assert_array_equal(NET.denoise(FRESH, X, T, {"tokens": TOKENS}), np.zeros_like(X))
    net = encoders.unet(8, (1, 1), attention=(1, 2), resample="residual")
    found = jax.jit(lambda p: net.features(p, X, T, range(1, 6)))(net.init(jax.random.key(1)))
    for n in (2, 4, 5):  # two residual blocks with attention and the middle; block 3 halves the map
        np.testing.assert_array_equal(found[n], found[n - 1])
    np.testing.assert_allclose(found[3], encoders._unet_layers.down(found[2]), atol=1e-6)


def test_features_are_those_of_the_whole_pass_and_stop_early():
    whole = features(PARAMS, {"tokens": TOKENS})
    flops = []
    for n in (1, 5, 8):
        early = jax.jit(lambda p, x, n=n: NET.features(p, x, T, (n,), {"tokens": TOKENS}))
        np.testing.assert_allclose(early(PARAMS, X)[n], whole[n], atol=1e-5)
        flops.append(early.lower(PARAMS, X).compile().cost_analysis()["flops"])
    assert flops[0] < flops[1] < flops[2]
    assert whole[len(NET.blocks)].shape == (2, 8, 8, 8)


def test_feedback_is_added_after_its_block_and_read_by_those_that_follow():
    rng = np.random.default_rng(7)
    plain = features(PARAMS, {"tokens": TOKENS})
    added = {n: rng.normal(size=plain[n].shape).astype(np.float32) for n in (2, 4)}

    @jax.jit
    def again(feedback):
        return NET.features(PARAMS, X, T, BLOCKS, {"tokens": TOKENS}, feedback=feedback)

    found = again({4: added[4]})
    np.testing.assert_allclose(found[3], plain[3], atol=1e-5)
    np.testing.assert_allclose(found[4], plain[4] + added[4], atol=1e-5)
    assert all(np.abs(found[n] - plain[n]).max() > 1e-3 for n in BLOCKS if n > 4)
    np.testing.assert_allclose(again({2: added[2]})[2], plain[2] + added[2], atol=1e-5)
    same = again({n: 0 * x for n, x in added.items()})
    np.testing.assert_allclose(same[len(NET.blocks)], plain[len(NET.blocks)], atol=1e-5)


def layered(tokens):
    return np.repeat(tokens[:, None], len(NET.cross_layers), axis=1)


def test_contexts_of_keys_values_and_layers_are_apart():
    plain = denoise(PARAMS, X, T, {"tokens": TOKENS})
    same = denoise(PARAMS, X, T, {"tokens": layered(TOKENS), "values": TOKENS})
    np.testing.assert_allclose(same, plain, atol=1e-5)
    values = denoise(PARAMS, X, T, {"tokens": TOKENS, "values": OTHER})
    keys = denoise(PARAMS, X, T, {"tokens": OTHER, "values": TOKENS})
    both = denoise(PARAMS, X, T, {"tokens": OTHER})
    found = np.stack([plain, values, keys, both])
    distance = np.abs(found[:, None] - found[None]).max(axis=(2, 3, 4, 5))
    assert (distance[~np.eye(4, dtype=bool)] > 1e-3).all()


def test_the_context_of_a_layer_is_read_from_its_block_on():
    numbers = [NET.blocks.index(name) + 1 for name in NET.cross_layers]
    before = features(PARAMS, {"tokens": layered(TOKENS)})
    for layer, number in enumerate(numbers):
        tokens = layered(TOKENS)
        tokens[:, layer] = OTHER
        after = features(PARAMS, {"tokens": tokens})
        changed = [n for n in BLOCKS if np.abs(after[n] - before[n]).max() > 1e-4]
        assert changed == list(range(number, len(NET.blocks) + 1))


def test_masked_tokens_do_not_count():
    mask = np.array([[True, True, False], [True, False, False]])
    given = np.where(mask[..., None], TOKENS, 99.0)
    found = denoise(PARAMS, X, T, {"tokens": given, "mask": mask})
    np.testing.assert_allclose(found, denoise(PARAMS, X, T, {"tokens": TOKENS, "mask": mask}), atol=1e-5)
    for row, count in ((0, 2), (1, 1)):
        alone = {"tokens": TOKENS[row : row + 1, :count]}
        expected = denoise(PARAMS, X[row : row + 1], T[row : row + 1], alone)
        np.testing.assert_allclose(found[row : row + 1], expected, atol=1e-5)
    assert np.abs(found - denoise(PARAMS, X, T, {"tokens": TOKENS})).max() > 1e-3


def test_class_vector_and_time_shift_the_channels():
    net = encoders.unet(8, (1,), classes=3, vector=4)
    params, vector = published_unets.drawn(net), np.ones((2, 4), np.float32)
    run = jax.jit(net.denoise)
    one = run(params, X, T, {"class": np.array([0, 0]), "vector": vector})
    for t, classes, scale in ((T, [0, 2], 1), (T + 1, [0, 0], 1), (T, [0, 0], 2)):
        other = run(params, X, t, {"class": np.array(classes), "vector": scale * vector})
        assert np.abs(one - other).max() > 1e-3


def test_fewer_decoder_blocks_read_the_last_of_each_level():
    net = encoders.unet(8, (1, 2, 2), blocks=2, decoder=1)
    assert net.blocks[-4:] == ("middle", "output_1", "output_2", "output_3")
    params = published_unets.drawn(net)
    reads = [params["blocks"][f"output_{n}"]["residual"]["norm_in"]["scale"].shape for n in (1, 2, 3)]
    assert reads == [(16 + 16,), (16 + 16,), (16 + 8,)]
    assert jax.eval_shape(net.denoise, params, X, T).shape == X.shape


def test_dropout_needs_a_key():
    net = encoders.unet(8, (1,), dropout=0.5)
    params = published_unets.drawn(net)
    run = jax.jit(net.denoise)
    found = [run(params, X, T, None, key) for key in (None, *jax.random.split(jax.random.key(0)))]
    np.testing.assert_array_equal(found[0], jax.jit(encoders.unet(8, (1,)).denoise)(params, X, T))
    assert min(np.abs(found[i] - found[j]).max() for i, j in ((0, 1), (1, 2))) > 1e-3


def test_low_precision_and_a_batch_on_eight_devices():
    low = denoise(PARAMS, jnp.asarray(X, jnp.bfloat16), T, {"tokens": TOKENS})
    whole = denoise(PARAMS, X, T, {"tokens": TOKENS})
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(np.float32), whole, atol=0.15)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    there = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    batch = (np.tile(X, (4, 1, 1, 1)), np.tile(T, 4), {"tokens": np.tile(TOKENS, (4, 1, 1))})
    split = denoise(PARAMS, *jax.device_put(batch, there))
    assert split.sharding.is_equivalent_to(there, 4)
    np.testing.assert_allclose(split, np.tile(whole, (4, 1, 1, 1)), atol=1e-5)


def test_a_step_of_training_reaches_every_parameter():
    def loss(params):
        return jnp.mean((NET.denoise(params, X, T, {"tokens": TOKENS}) - 1) ** 2)

    slopes = jax.tree.map_with_path(
        lambda path, x: (jax.tree_util.keystr(path), float(jnp.abs(x).max())), jax.jit(jax.grad(loss))(PARAMS)
    )
    for name, size in jax.tree.leaves(slopes, is_leaf=lambda x: isinstance(x, tuple)):
        if "key" not in name or "bias" not in name:  # a bias of keys moves all scores alike
            assert np.isfinite(size) and size > 0, name


def test_timestep_embedding_is_its_formula():
    t = np.array([0, 3, 999])
    found = encoders.timestep_embedding(t, 6)
    for row, at in zip(found, t, strict=True):
        angles = [at * 10000 ** (-k / 3) for k in range(3)]
        np.testing.assert_allclose(row, [*np.cos(angles), *np.sin(angles)], atol=1e-4)


CLASSES = encoders.unet(8, (1,), classes=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encoders.unet(7, (1,)), r"base=7 \(even\)"),
        (lambda: encoders.unet(8, ()), "multipliers=()"),
        (lambda: encoders.unet(8, (1,), decoder=3), r"decoder=3 \(1..2\)"),
        (lambda: encoders.unet(8, (1,), resample="pool"), "resample='pool'; choose one of residual, conv"),
        (lambda: encoders.unet(8, (1,), heads=3), r"heads: 8 channels are not divisible by 3"),
        (lambda: encoders.timestep_embedding(T, 3), "width: 3; pass an even number"),
        (lambda: NET.denoise(PARAMS, X[..., 0], T), r"x: float32 \(2, 8, 8\); pass floats \[B, H, W, 1\]"),
        (lambda: NET.denoise(PARAMS, X[:, :7], T), r"x: sides \(7, 8\); the levels halve them"),
        (lambda: NET.denoise(PARAMS, X, T[:1], {"tokens": TOKENS}), r"t: shape \(1,\); pass \[2\]"),
        (lambda: NET.denoise(PARAMS, X, T), 'condition: lacks "tokens"; pass it, or the null'),
        (lambda: NET.denoise({}, X, T, TOKENS), "condition: not a dict; pass"),
        (lambda: NET.denoise(PARAMS, X, T, {"tokens": TOKENS, "class": T}), '"class" is not one of this'),
        (lambda: NET.denoise(PARAMS, X, T, {"tokens": TOKENS[..., :5]}), r"tokens: shape \(2, 3, 5\); pass"),
        (lambda: NET.denoise(PARAMS, X, T, {"tokens": TOKENS[:1]}), r"tokens: shape \(1, 3, 6\); pass \[2"),
        (
            lambda: NET.denoise(PARAMS, X, T, {"tokens": np.repeat(TOKENS[:, None], 2, axis=1)}),
            r"tokens: shape \(2, 2, 3, 6\); pass \[2, 4, any, 6\]",
        ),
        (lambda: NET.denoise(PARAMS, X, T, {"tokens": TOKENS, "mask": np.ones((2, 4), bool)}), "mask: shape"),
        (lambda: NET.features(PARAMS, X, T, (0,), {"tokens": TOKENS}), r"numbers: \[0\]; pass some of"),
        (lambda: NET.features(PARAMS, X, T, (), {"tokens": TOKENS}), r"numbers: \[\]; pass some of"),
        (lambda: CLASSES.denoise({}, X, T, {"class": np.array([0, 3])}), r"class: 0..3 of 3; pass 0..2"),
        (lambda: CLASSES.denoise({}, X, T, {"class": np.ones(2)}), "class: float32; pass integers"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
