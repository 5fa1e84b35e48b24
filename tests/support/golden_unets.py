"""Writes what U-Nets of diffusers give on our parameters: python tests/support/golden_unets.py

It needs the extra ``peers`` and diffusers. Parameters and inputs are drawn by NumPy from seeds, so the file
holds outputs alone.
"""

import importlib.metadata
import pathlib

import numpy as np
import published_unets

FILE = pathlib.Path(__file__).parent / "golden" / "unets.npz"


if __name__ == "__main__":
    nets = {"adm": published_unets.ADM, "latent": published_unets.LATENT}
    found = {name: published_unets.peer_output(net, published_unets.drawn(net)) for name, net in nets.items()}
    versions = [f"{p}=={importlib.metadata.version(p)}" for p in ("diffusers", "torch")]
    np.savez_compressed(FILE, versions=np.array(versions), **found)
