"""Towers of pictures and texts: their parts, their scale, and one trunk for both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import data, encoders, losses

RNG = np.random.default_rng(0)


def linear(width):
    def init(key):
        return {"kernel": jax.random.normal(key, (4, width))}

    def encode(params, x, key=None):
        return jnp.reshape(x, (len(x), -1)) @ params["kernel"]

    return init, encode


def test_towers_are_their_parts_and_maps():
    model = encoders.dual_encoder(linear(6), linear(5), maps=(6, 5, 3))
    params = model.init(jax.random.key(0))
    x = RNG.normal(size=(2, 2, 2, 1)).astype(np.float32)
    wanted = x.reshape(2, 4) @ params["image"]["kernel"] @ params["image_map"]["kernel"]
    np.testing.assert_allclose(model.encode_images(params, x), wanted, atol=1e-5)
    wanted = x.reshape(2, 4) @ params["text"]["kernel"] @ params["text_map"]["kernel"]
    np.testing.assert_allclose(model.encode_texts(params, x), wanted, atol=1e-5)
    bare = encoders.dual_encoder(linear(3), linear(3))
    params = bare.init(jax.random.key(0))
    assert set(params) == {"image", "text", "scale"}
    assert (params["image"]["kernel"] != params["text"]["kernel"]).all()
    assert bare.encode_texts(params, x).shape == (2, 3)


def test_trained_towers_start_as_they_are_and_nets_are_drawn():
    net = encoders.convnet([4], width=3, inputs=1)
    drawn = net.init(jax.random.key(1))
    trained = encoders.ImageEncoder(drawn, net.maps, net.encode, None, 4, 1)
    model = encoders.dual_encoder(trained, linear(3))
    params = model.init(jax.random.key(0))
    images = np.ones((1, 4, 4, 1), np.float32)
    np.testing.assert_array_equal(model.encode_images(params, images), net.encode(drawn, images))
    other = encoders.dual_encoder(net, linear(3)).init(jax.random.key(0))
    assert jax.tree.structure(other["image"]) == jax.tree.structure(drawn)
    batched = encoders.dual_encoder(encoders.convnet([4], width=3, inputs=1, norm="batch"), linear(3))
    with pytest.raises(ValueError, match="image: has statistics of batches"):
        batched.init(jax.random.key(0))


def test_the_temperature_is_learned_and_never_below_a_hundredth():
    scale = encoders.init_scale(temperature=0.07)
    assert float(encoders.learned_temperature(scale)) == pytest.approx(0.07)
    assert float(encoders.learned_temperature({"log_temperature": jnp.float32(-20)})) == pytest.approx(0.01)
    x = jnp.eye(3) + 0.1

    def loss(scale):
        return jnp.mean(losses.info_nce(x, x, temperature=encoders.learned_temperature(scale)))

    assert jax.grad(loss)(scale)["log_temperature"] > 0  # the pairs are right, so a sharper softmax pays


@pytest.fixture(scope="module")
def shared():
    model = encoders.multimodal(12, 4, patches=4, length=8, width=8, layers=1, heads=2)
    towers = encoders.shared_encoder(model, lambda images: data.image_patches(images, 2))
    return model, towers, towers.init(jax.random.key(0))


def test_one_trunk_reads_pictures_as_rows_of_placeholders(shared):
    model, towers, params = shared
    images = RNG.normal(size=(2, 4, 4, 1)).astype(np.float32)
    rows = [{"patches": x} for x in data.image_patches(images, 2)] + [{"text": "7 8"}]
    batch = data.multimodal_batch(rows, lambda text: [int(x) for x in text.split()], length=8)
    wanted = model.encode(params["trunk"], batch)
    np.testing.assert_allclose(towers.encode_images(params, images), wanted[:2], atol=1e-5)
    words = {name: x[2:] for name, x in batch.items()}
    np.testing.assert_allclose(towers.encode_texts(params, words), wanted[2:], atol=1e-5)


def test_adapters_of_low_rank_fit_a_trunk_of_both(shared):
    """LoRA and DoRA on an encoder that was built here, kernels of patches among them."""
    from jaxembed import weights

    _, towers, params = shared
    images = RNG.normal(size=(2, 4, 4, 1)).astype(np.float32)
    for magnitudes in (False, True):
        made = weights.init_low_rank(jax.random.key(0), params, "kernel", 2, magnitudes=magnitudes)
        assert {"blocks", "patch"} <= made["trunk"].keys()

        def loss(adapters):
            return jnp.sum(towers.encode_images(weights.low_rank(params, adapters), images) ** 3)

        assert float(loss(made)) == pytest.approx(
            float(jnp.sum(towers.encode_images(params, images) ** 3)), rel=1e-4
        )
        gradient = jax.grad(loss)(made)["trunk"]["patch"]["kernel"]
        assert np.asarray(gradient["up"]).any()


@pytest.mark.slow
def test_memory_of_cached_towers_is_that_of_a_chunk():
    """Twice the batch in twice the chunks: temporary memory grows by what leads with B alone."""
    model = encoders.multimodal(12, 16, patches=4, length=8, width=32, layers=2, heads=2)
    towers = encoders.shared_encoder(model, lambda images: data.image_patches(images, 4))
    params = jax.eval_shape(towers.init, jax.random.key(0))

    def temporary(batch, chunks):
        def loss(params, images, ids):
            one = losses.cached(towers.encode_images, chunks) if chunks else towers.encode_images
            two = losses.cached(towers.encode_texts, chunks) if chunks else towers.encode_texts
            texts = {"ids": ids, "mask": ids > 0}
            return jnp.mean(losses.info_nce(one(params, images), two(params, texts)))

        given = jax.ShapeDtypeStruct((batch, 8, 8, 1), np.float32), jax.ShapeDtypeStruct((batch, 8), np.int32)
        return jax.jit(jax.grad(loss)).lower(params, *given).compile().memory_analysis().temp_size_in_bytes

    whole, small, large = temporary(256, 0), temporary(128, 8), temporary(256, 16)
    assert large < 1.5 * small and large < 0.4 * whole, (whole, small, large)
