"""Arms of the benchmark of diffusion: the U-Net in torch on our parameters, and XLA's products alone."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing

HEAVY = ("conv_general_dilated", "dot_general")


def products(function, *arguments, kinds=HEAVY):
    """A compiled function that runs the convolutions and matrix products of another one, and nothing else.

    They are read from its traced form, with their shapes, and run on numbers of their own.
    """
    found = [eqn for eqn, _ in timing.equations(jax.make_jaxpr(function)(*arguments).jaxpr, kinds)]
    rng = np.random.default_rng(0)
    inputs = [[jnp.asarray(rng.normal(size=v.aval.shape), v.aval.dtype) for v in eqn.invars] for eqn in found]
    run = jax.jit(
        lambda rows: [eqn.primitive.bind(*x, **eqn.params) for eqn, x in zip(found, rows, strict=True)]
    )
    return lambda: run(inputs)


class TorchUNet:
    """ADM's U-Net in torch, by names of our blocks, on a copy of our parameters."""

    def __init__(self, net, params, groups, heads):
        import torch

        self.torch, self.names, self.groups, self.heads = torch, net.blocks, groups, heads
        self.params = jax.tree.map(self._leaf, params)

    def _leaf(self, x):
        x = np.asarray(x)
        tensor = self.torch.tensor((x.transpose(3, 2, 0, 1) if x.ndim == 4 else x).copy())
        if x.ndim == 4:
            tensor = tensor.contiguous(memory_format=self.torch.channels_last)
        return tensor.requires_grad_()

    def leaves(self):
        return jax.tree.leaves(self.params)

    def norm(self, p, x):
        return self.torch.nn.functional.group_norm(x, self.groups, p["scale"], p["bias"], 1e-5)

    def conv(self, p, x):
        return self.torch.nn.functional.conv2d(x, p["kernel"], p["bias"], padding=p["kernel"].shape[-1] // 2)

    def resample(self, x, kind):
        functional = self.torch.nn.functional
        if kind == "down":
            return functional.avg_pool2d(x, 2)
        return functional.interpolate(x, scale_factor=2, mode="nearest") if kind == "up" else x

    def residual(self, p, x, time, kind=None):
        silu = self.torch.nn.functional.silu
        h = self.conv(p["conv_in"], self.resample(silu(self.norm(p["norm_in"], x)), kind))
        scale, shift = (time @ p["time"]["kernel"] + p["time"]["bias"])[:, :, None, None].chunk(2, dim=1)
        h = self.conv(p["conv_out"], silu(self.norm(p["norm_out"], h) * (1 + scale) + shift))
        x = self.resample(x, kind)
        return (self.conv(p["shortcut"], x) if "shortcut" in p else x) + h

    def attention(self, p, x):
        batch, channels, height, width = x.shape
        y = self.norm(p["norm"], x).flatten(2).transpose(1, 2)
        q, k, v = (
            (y @ p[name]["kernel"] + p[name]["bias"]).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = self.torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out = mixed @ p["out"]["kernel"] + p["out"]["bias"]
        return x + out.transpose(1, 2).reshape(batch, channels, height, width)

    def __call__(self, x, t):
        """[B, C, H, W] and t [B] -> [B, C, H, W]."""
        torch, silu, p = self.torch, self.torch.nn.functional.silu, self.params
        width = p["time"]["in"]["kernel"].shape[0]
        angles = t[:, None] * torch.exp(-np.log(10000) * torch.arange(width // 2) / (width // 2))
        time = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
        for name in ("in", "out"):
            time = silu(time @ p["time"][name]["kernel"] + p["time"][name]["bias"])
        seen = []
        for name in self.names:
            block = p["blocks"][name]
            x = torch.cat([x, seen.pop()], dim=1) if name.startswith("output") else x
            kind = "down" if name.startswith("input") else "up"
            if "conv" in block:
                x = self.conv(block["conv"], x)
            if "residual" in block:
                x = self.residual(block["residual"], x, time)
            if "attention" in block:
                x = self.attention(block["attention"], x)
            if "second" in block:
                x = self.residual(block["second"], x, time)
            if "resample" in block:
                x = self.residual(block["resample"], x, time, kind)
            if name.startswith("input"):
                seen.append(x)
        return self.conv(p["out"]["conv"], silu(self.norm(p["out"]["norm"], x)))
