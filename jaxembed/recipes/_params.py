"""Parameters as one file whose name holds their digest."""

import pathlib

import jax
import numpy as np

from jaxembed import files

REMEDY = "save the model again"


def write_params(folder, params):
    """Writes parameters under a name that holds their digest; returns the name."""
    new = folder / ".params.new"
    with files.written(new) as file:
        np.savez(file, **{"/".join(k.key for k in path): x for path, x in jax.tree.leaves_with_path(params)})
    name = f"params-{files.digest(new)[:16]}.npz"
    new.replace(folder / name)
    return name


def read_params(path):
    """The nested dict of arrays that :func:`write_params` wrote."""
    path, params = pathlib.Path(path), {"exact": {}}
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; {REMEDY}")
    if f"params-{files.digest(path)[:16]}.npz" != path.name:
        raise ValueError(f"{path}: damaged or cut short; {REMEDY}")
    with np.load(path) as stored:
        for name, array in stored.items():
            *parents, last = name.split("/")
            level = params
            for parent in parents:
                level = level.setdefault(parent, {})
            level[last] = array
    return params
