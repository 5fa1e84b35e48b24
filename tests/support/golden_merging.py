"""Writes the numbers of FusionBench that tests/weights/test_golden_merging.py compares ours with.

Run ``python tests/support/golden_merging.py`` after ``pip install torch`` and ``pip install --no-deps
fusion-bench``, whose files are read one by one because the package itself imports far more. It overwrites
tests/support/golden/merging.npz.
"""

import ast
import importlib.metadata
import logging
import pathlib

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent / "golden"
DENSITY = 0.4


def functions(file, *names):
    """Some functions of one file of the package, and those that they call there, without its imports."""
    path = importlib.metadata.distribution("fusion-bench").locate_file(f"fusion_bench/method/{file}")
    tree = ast.parse(pathlib.Path(path).read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:  # annotations name what is not imported
        node.returns = None
        for argument in node.args.args:
            argument.annotation = None
    known = {"torch": torch, "Tensor": torch.Tensor, "np": np, "log": logging.getLogger("peer")}
    exec(compile(tree, str(path), "exec"), known)
    return [known[name] for name in names]


def main():
    """Vectors of three models, and what every rule of the package makes of them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 60)).astype(np.float32)
    diagonals = (rng.normal(size=(3, 60)) ** 2).astype(np.float32)
    (slerp,) = functions("slerp/slerp_utils.py", "slerp")
    (ties,) = functions("ties_merging/ties_merging_utils.py", "ties_merging")
    (fisher,) = functions("fisher_merging/fisher_merging.py", "merging_with_fisher_weights")
    a, b, _ = map(torch.tensor, vectors)
    found = {f"slerp_{t}": slerp(t, a, b) for t in (0.0, 0.3, 1.0)}
    found["slerp_line"] = slerp(0.3, a, 1.0001 * a)
    for reduce in ("sum", "mean"):
        found[f"ties_{reduce}"] = ties(torch.tensor(vectors), reset_thresh=DENSITY, merge_func=reduce)
    given = {"w": [torch.tensor(v) for v in vectors]}, [{"w": torch.tensor(f)} for f in diagonals]
    coefficients = torch.tensor([1.0, 2.0, 0.5])
    for name, normalise in (("fisher", True), ("fisher_plain", False)):
        found[name] = fisher(*given, coefficients, normalize_fisher_weight=normalise)["w"]
    versions = [f"{p}=={importlib.metadata.version(p)}" for p in ("fusion-bench", "torch")]
    arrays = {name: x.numpy() for name, x in found.items()}
    inputs = {"vectors": vectors, "diagonals": diagonals, "density": DENSITY, "versions": np.array(versions)}
    np.savez_compressed(FOLDER / "merging.npz", **inputs, **arrays)


if __name__ == "__main__":
    main()
