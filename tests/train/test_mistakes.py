"""Common mistakes of a training call get one line, before any step is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed import train

MESH = train.make_mesh(1)
TX = optax.sgd(0.1)


def init(key):
    return {"w": jnp.ones(4)}


def loss_fn(params, batch, key):
    return jnp.sum(params["w"] * batch["x"]), {}


BATCH = {"x": np.ones(4, np.float32)}


def run(**options):
    given = {"init": init, "batches": [BATCH] * 3, "steps": 3, "loss_fn": loss_fn, "tx": TX}
    return train.fit(**given | {"mesh": MESH, "progress": False} | options)


def with_extra(key):
    return init(key), jnp.zeros(())


class Short:
    """Batches without a length that end early."""

    def __getitem__(self, t):
        return [BATCH, BATCH][t]


MISTAKES = {
    "a scalar alone": (
        {"loss_fn": lambda p, b, k: jnp.sum(p["w"])},
        r"loss_fn: returned a scalar; return \(",
    ),
    "a loss per row": ({"loss_fn": lambda p, b, k: (p["w"] * b["x"], {})}, r"loss has shape \(4,\); return"),
    "a row alone": ({"loss_fn": lambda p, b, k: p["w"]}, r"returned an array of shape \(4,\); return"),
    "no names": ({"loss_fn": lambda p, b, k: (jnp.sum(p["w"]), jnp.sum(p["w"]))}, r"\(a scalar, a scalar\)"),
    "extra forgotten": (
        {"init": with_extra, "loss_fn": lambda p, b, k, e: (jnp.sum(p["w"]), {})},
        r"returned \(a scalar, a dict\); return \(scalar, \(\{name: scalar\}, extra\)\)",
    ),
    "a wide metric": (
        {"loss_fn": lambda p, b, k: (jnp.sum(p["w"]), {"rows": p["w"]})},
        r"metric 'rows' has shape \(4,\); return",
    ),
    "a text": (
        {"batches": [BATCH | {"t": np.array(["a"])}] * 3},
        "batches: t: holds texts, not numbers; leave",
    ),
    "a list of texts": (
        {"batches": [BATCH | {"t": ["a"]}] * 3},
        "batches: t/0: holds texts, not numbers; leave",
    ),
    "objects": (
        {"batches": [BATCH | {"t": np.array(["a", None])}] * 3},
        "batches: t: holds object, not numbers",
    ),
    "times": (
        {"batches": [BATCH | {"t": np.array(["2020"], "M8[D]")}] * 3},
        r"batches: t: holds datetime64\[D\], not numbers",
    ),
    "beyond float32": (
        {"batches": [BATCH | {"deep": {"t": np.array([1, -1e39])}}] * 3},
        r"batches: deep/t: -1e\+39 is beyond float32; scale",
    ),
    "a generator": ({"batches": (BATCH for _ in range(3))}, r"batches: a generator has no \[t\]; pass"),
    "a short list": ({"batches": [BATCH] * 2}, "batches: 2 for 3 steps; pass"),
    "short": ({"batches": Short()}, r"batches: none at \[2\], of 3 steps"),
    "one batch": ({"batches": BATCH}, r"batches: none at \[0\], of 3 steps"),
    "ids of 64 bits": (
        {"batches": [BATCH | {"ids": np.array([2**32 + 7] * 4)}] * 3},
        "batches: ids: 4294967303",
    ),
    "negative ids": (
        {"batches": [BATCH | {"ids": np.array([-(2**40)] * 4)}] * 3},
        "batches: ids: -1099511627776",
    ),
    "unsigned ids": ({"batches": [{"a": {"k": np.array([2**64 - 1], np.uint64)}}] * 3}, "batches: a/k: 1844"),
    "another scheme": ({"workdir": "ftp://host/run"}, "workdir='ftp://host/run': pass"),
    "a slash lost": ({"workdir": "gs:/bucket/run"}, "workdir='gs:/bucket/run': pass"),
    "a trace in a bucket": (
        {"workdir": "gs://bucket/run", "profile": 2},
        "profile and tensorboard write to the",
    ),
    "events in a bucket": (
        {"workdir": "s3://bucket/run", "tensorboard": True},
        "profile and tensorboard write to the local disk",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message) as caught:
        run(**options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())  # no folder named "gs:"


def test_ids_that_fit_32_bits_arrive_as_they_are():
    seen = train.place_batch(
        {"ids": np.array([2**31 - 1, -(2**31)])}, MESH, [(r"", jax.sharding.PartitionSpec())]
    )
    assert np.asarray(seen["ids"]).tolist() == [2**31 - 1, -(2**31)]


# Workdirs in a bucket


@pytest.fixture
def bucket(monkeypatch):
    """A store that answers to s3:// from memory."""
    fsspec = pytest.importorskip("fsspec")
    memory = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem

    class Bucket(memory):
        protocol, store, pseudo_dirs = "s3", {}, [""]

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + str(path).removeprefix("s3://").strip("/")

    from etils.epath import backend

    known = fsspec.filesystem
    monkeypatch.setattr(
        fsspec, "filesystem", lambda name, **o: Bucket() if name == "s3" else known(name, **o)
    )
    backend.fsspec_backend._get_filesystem.cache_clear()
    yield Bucket
    backend.fsspec_backend._get_filesystem.cache_clear()


def test_the_log_of_a_bucket_is_the_log_of_a_folder(bucket, tmp_path):
    for workdir in (str(tmp_path), "s3://bucket/run"):
        for first in (0, 2):
            log = train.log.MetricLog(workdir, first)
            for step in range(first + 1, 4):
                log.add(step, "train", {"loss": step / 2, "bad": float("nan")})
            log.close()
    assert [row["step"] for row in train.read_metrics("s3://bucket/run")] == [1, 2, 3]
    assert train.read_metrics("s3://bucket/run") == train.read_metrics(tmp_path)


def test_a_bucket_holds_one_experiment(bucket):
    train.checkpoint.Checkpoints("s3://bucket/run", meta={"rows": 1}).close()
    with pytest.raises(
        ValueError, match=r"workdir='s3://bucket/run' holds another experiment: meta\['rows'\]"
    ):
        train.checkpoint.Checkpoints("s3://bucket/run", meta={"rows": 2})


def test_a_bucket_without_its_client_is_refused_before_a_step(monkeypatch, tmp_path):
    import fsspec
    from etils.epath import backend

    def missing(name, **options):
        raise ImportError("Please install s3fs\nto access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    backend.fsspec_backend._get_filesystem.cache_clear()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="workdir='s3://bucket/run' cannot be written .Please install s3fs"
    ) as caught:
        run(workdir="s3://bucket/run", batches=Short(), steps=1)
    backend.fsspec_backend._get_filesystem.cache_clear()
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_parameters_of_a_bucket_without_its_client_are_one_line(monkeypatch):
    import fsspec
    from etils.epath import backend

    def missing(name, **options):
        raise ImportError("Please install gcsfs\nto access Google Storage")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    backend.fsspec_backend._get_filesystem.cache_clear()
    message = r"^workdir='gs://b/x' cannot be read \(Please install gcsfs to access Google Storage\); "
    with pytest.raises(ValueError, match=message):
        train.restore_params("gs://b/x")
    backend.fsspec_backend._get_filesystem.cache_clear()


def test_infinite_numbers_and_those_of_float32_pass():
    batch = {
        "x": np.array([1.0, np.inf, np.nan, 3e38]),
        "low": jnp.ones(4, jnp.bfloat16),
        "b": np.ones(4, bool),
    }
    placed = train.place_batch(batch, MESH, ())
    np.testing.assert_array_equal(placed["x"], batch["x"].astype(np.float32))


def test_checkpoints_of_a_bucket_name_what_they_lack(bucket, monkeypatch):
    from orbax.checkpoint import v1 as ocp

    def missing(*args, **options):
        raise ImportError("cannot import name 'storage' from 'google.cloud'")

    monkeypatch.setattr(ocp.training, "Checkpointer", missing)
    with pytest.raises(
        ValueError, match="workdir='s3://bucket/run': cannot import name 'storage'.*; install it"
    ):
        run(workdir="s3://bucket/run")
