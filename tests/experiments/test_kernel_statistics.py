"""The experiment on kernels of trained nets: files of a user, order of layers, verdicts, pictures."""

import pathlib
import pickle

import numpy as np
import pytest
from refusals import refused
from stories import ran

from experiments.kernel_statistics import __main__ as story
from experiments.kernel_statistics import networks, pictures, small
from experiments.kernel_statistics.__main__ import Config
from jaxembed.encoders.pretrained.tensors import write_safetensors

RNG = np.random.default_rng(0)


def state():
    """A network of PyTorch's names: a random layer, one of copies, a dead one, a depthwise one, 1 x 1."""
    one = RNG.normal(size=(1, 1, 3, 3)).astype(np.float32)
    return {
        "features.0.weight": RNG.normal(size=(16, 3, 3, 3)).astype(np.float32),
        "features.2.weight": np.tile(one, (16, 16, 1, 1)),
        "features.10.weight": np.zeros((16, 16, 3, 3), np.float32),
        "features.3.weight": np.abs(RNG.normal(size=(20, 1, 5, 5))).astype(np.float32),
        "features.11.weight": RNG.normal(size=(4, 16, 1, 1)).astype(np.float32),
        "features.0.bias": np.zeros(16, np.float32),
    }


def written(kind, folder):
    path = pathlib.Path(folder, f"net.{kind}")
    if kind == "safetensors":
        write_safetensors(path, state())
    elif kind == "npz":
        np.savez(path, **state())
    else:
        path.write_bytes(pickle.dumps(state(), protocol=3))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "npz", "pkl"])
def test_a_network_of_a_user_is_measured(kind, tmp_path, capsys):
    saved = ran(story, tmp_path, pictures.figures, model=written(kind, tmp_path))
    rows = {row["layer"]: row for row in saved["tables"]["layers"]}
    assert list(rows) == [f"features.{i}.weight" for i in (0, 2, 3, 10, 11)]
    assert [row["degenerate"] for row in rows.values()] == ["random", "alike", "random", "dead", ""]
    assert [row["kernel"] for row in rows.values()][2] == "5 x 5 x 1 x 20"
    said = capsys.readouterr().out
    assert "3 of 5" not in said and "4 of 5 layers are degenerate" in said
    assert "features.10.weight is dead" in said and "features.2.weight is low in diversity" in said
    assert len(list(tmp_path.glob("*.png"))) == 2  # quality by depth, and kernels


def test_files_that_are_not_networks_are_refused_in_one_line(tmp_path):
    def asked(path):
        cfg = Config(model=path)
        story.look(cfg)
        story.run(cfg)

    text = tmp_path / "net.txt"
    text.touch()
    refused("--model: .*net.txt: its name ends with '.txt'; pass one of", lambda: asked(text))
    refused("--model: .*none.npz: no such folder or file; pass", lambda: asked(tmp_path / "none.npz"))
    refused("--model: .*: a folder; pass", lambda: asked(tmp_path))
    packed = tmp_path / "net.pt"
    packed.write_bytes(b"PK\x03\x04" + bytes(99))
    refused("--model: .*net.pt: in PyTorch's format since 1.6; save", lambda: asked(packed))
    dense = tmp_path / "dense.npz"
    np.savez(dense, **{"fc.weight": np.ones((3, 4))})
    refused("params: no kernels of convolutions; see", lambda: asked(dense))
    broken = tmp_path / "broken.npz"
    np.savez(broken, **{"conv.weight": np.full((16, 3, 3, 3), np.nan, np.float32)})
    refused("params: 'conv.weight' holds NaN", lambda: asked(broken))


def test_layers_are_in_the_order_of_depth():
    paths = [
        "block_10/kernel",
        "head/kernel",
        "block_2/kernel",
        "stem/kernel",
        "conv10/kernel",
        "conv1/kernel",
    ]
    expected = ["conv1", "stem", "block_2", "block_10", "conv10", "head"]
    assert [path.split("/")[0] for path in networks.by_depth(paths)] == expected
    torch = ["layer2.0.conv1.weight", "layer1.10.conv1.weight", "layer1.9.conv1.weight", "conv1.weight"]
    assert networks.by_depth(torch) == [torch[3], torch[2], torch[1], torch[0]]


def test_summaries_count_kernels_and_faults_by_size():
    layers = [
        {"kernel": "3 x 3 x 2 x 8", "kernels": 16, "sparsity": 0.5, "orthogonality": 0.2, "entropy": 0.9}
        | {"to random": 1.1, "degenerate": "random"},
        {"kernel": "3 x 3 x 4 x 12", "kernels": 48, "sparsity": 0.0, "orthogonality": 0.4, "entropy": 0.7}
        | {"to random": 0.8, "degenerate": ""},
        {"kernel": "1 x 1 x 4 x 4", "kernels": 16, "sparsity": 1.0, "orthogonality": 0.0, "entropy": 0.0}
        | {"to random": None, "degenerate": "dead"},
    ]
    points, squares = story.summary("net", layers)
    assert squares["dead kernels"] == pytest.approx(0.125) and squares["lowest to random"] == 0.8
    assert [squares[n] for n in ("layers", "kernels", "random", "alike", "dead")] == [2, 64, 1, 0, 0]
    assert points["dead"] == 1 and "entropy" not in points


def test_pieces_are_of_both_photographs():
    found = small.pieces(0)
    assert found["images"].shape == (2000, 8, 8, 1) and found["labels"].mean() == 0.5
    assert found["images"].min() >= 0 and found["images"].max() <= 1
    known, held = small.digits(3)
    assert len(held["labels"]) == 400 and len(known["labels"]) == 1397


def claims_of(tables):
    return [claim.ours(tables) for claim in story.CLAIMS]


def test_claims_read_their_numbers():
    wide = [
        {
            "width": w,
            "layer": "last",
            "kernels": w * w,
            "runs": {"to random": [0.7 + w / 1000 + s / 1e4 for s in range(5)]},
        }
        for w in (8, 32, 128)
    ]
    drift = {small.START: [9.0, 8, 9, 8, 9], small.TWO: [1.0] * 5, small.TASKS: [4.0] * 5}
    drift = [{"between": name, "runs": runs} for name, runs in drift.items()]
    tables = {
        "published": [{"dead": 0, "alike": 1, "random": 0}],
        "drawn anew": [{"called random": 1}, {"called random": 0.9}],
        "by width": wide,
        "drift": drift,
    }
    verdicts = [answer.verdict for answer in claims_of(tables)]
    assert verdicts == ["reproduced", "partly", "reproduced", "reproduced", "reproduced", "not reproduced"]
    assert not any(claims_of({"layers": []}))  # a network of a user has no claims
