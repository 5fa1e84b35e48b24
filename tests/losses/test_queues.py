"""The queue of negatives: who is in it, whom it hides, and the loss over batch and queue."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import losses

RNG = np.random.default_rng(4)
Q, D, OLD = (RNG.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (3, 4), (9, 4)))


def pushed(size, sizes, keys=None):
    queue, start, push = losses.init_queue(size, 4), 0, jax.jit(losses.push_queue)
    for count in sizes:
        some = slice(start, start + count)
        queue = push(queue, OLD[some], None if keys is None else keys[some])
        start += count
    return queue


@pytest.mark.parametrize("sizes", [(2,), (2, 2), (2, 2, 2), (4, 3), (1,) * 9, (3, 3, 3), (4, 4, 1)])
def test_a_queue_holds_the_last_vectors(sizes):
    queue, total = pushed(4, sizes), sum(sizes)
    held = np.asarray(queue["vectors"])[: min(4, total)]
    wanted = OLD[max(0, total - 4) : total]
    assert sorted(map(tuple, held)) == sorted(map(tuple, wanted))
    assert (int(queue["count"]) >= 4) == (total >= 4) and int(queue["count"]) < 8


@pytest.mark.parametrize("sizes", [(), (2,), (4, 3)])
def test_the_loss_is_that_of_batch_and_queue_together(sizes):
    queue, total = pushed(4, sizes), sum(sizes)
    together = np.concatenate([D, OLD[max(0, total - 4) : total]])
    for loss in (losses.info_nce, losses.hardest(losses.info_nce, 2)):
        found = jax.jit(losses.queued(loss))(Q, D, queue)
        np.testing.assert_allclose(found, loss(Q, together), rtol=1e-5)


def test_a_key_hides_the_documents_that_a_query_knows():
    keys = np.array([7, 8, 7, 9])
    queue = pushed(4, (4,), keys)
    where = RNG.random((3, 3)) > 0.3
    found = losses.queued(losses.info_nce)(Q, D, queue, keys=np.array([7, 9, 1]), where=where)
    shown = keys != np.array([7, 9, 1])[:, None]
    wanted = losses.info_nce(Q, np.concatenate([D, OLD[:4]]), where=np.concatenate([where, shown], axis=1))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_nothing_flows_back_into_the_queue():
    queue = pushed(4, (4,))

    def total(vectors, documents):
        return losses.queued(losses.info_nce)(Q, documents, queue | {"vectors": vectors}).sum()

    to_queue, to_documents = jax.grad(total, argnums=(0, 1))(queue["vectors"], jnp.asarray(D))
    assert not np.abs(to_queue).any() and np.abs(to_documents).min() > 0
    through = jax.grad(lambda x: losses.push_queue(queue, x)["vectors"].sum())(jnp.asarray(D))
    assert not np.abs(through).any()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: losses.init_queue(0, 4), "size"),
        (lambda: losses.init_queue(4, 0), "width"),
        (lambda: losses.push_queue(losses.init_queue(4, 4), OLD), "vectors"),
        (lambda: losses.push_queue(losses.init_queue(4, 3), D), "vectors"),
        (lambda: losses.push_queue(losses.init_queue(4, 4), D, np.zeros(2, int)), "keys"),
        (lambda: losses.queued(losses.info_nce)(Q, D, losses.init_queue(4, 5)), "queue"),
        (
            lambda: losses.queued(losses.info_nce)(Q, D, losses.init_queue(4, 4), keys=np.zeros(2, int)),
            "keys",
        ),
    ],
)
def test_errors_name_the_argument(call, name):
    with pytest.raises(ValueError, match=f"^{name}: .*") as caught:
        call()
    assert "\n" not in str(caught.value)
