"""U-Nets of diffusers with our parameters: what the peers' test and the golden numbers compare ours with."""

import numpy as np

from jaxembed import encoders

RESIDUAL = {"norm_in": "norm1", "conv_in": "conv1", "time": "time_emb_proj", "norm_out": "norm2"}
RESIDUAL |= {"conv_out": "conv2", "shortcut": "conv_shortcut"}
ATTEND = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
ATTENTION = {"norm": "group_norm", **ATTEND}
CROSS = {"norm": "norm", "in": "proj_in", "out": "proj_out"}
CROSS |= {
    f"{ours}_norm": f"transformer_blocks.0.norm{n}" for n, ours in enumerate(("self", "cross", "mlp"), 1)
}
CROSS |= {"mlp_in": "transformer_blocks.0.ff.net.0.proj", "mlp_out": "transformer_blocks.0.ff.net.2"}

ADM = encoders.unet(
    16, (1, 2), channels=3, blocks=2, attention=(2,), head_width=8, groups=8, classes=5, outputs=3
)
LATENT = encoders.unet(
    16, (1, 2), channels=3, attention=(1, 2), context=12, heads=4, groups=8, resample="conv", scaled=False
)


def drawn(net):
    """Parameters of a U-Net, none of them zeros, the same wherever NumPy is."""
    import jax

    rng = np.random.default_rng(0)

    def one(path, leaf):
        scale = 0.8 / np.sqrt(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.2
        centre = float("scale" in jax.tree_util.keystr(path))
        return (centre + scale * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree.map_with_path(one, jax.eval_shape(net.init, jax.random.key(0)))


def inputs():
    """(x [2, 8, 8, 3], t [2], class [2], tokens [2, 5, 12], mask [2, 5]) for both networks."""
    rng = np.random.default_rng(1)
    x, tokens = rng.normal(size=(2, 8, 8, 3)), rng.normal(size=(2, 5, 12))
    mask = np.arange(5) < np.array([[5], [3]])
    return x.astype(np.float32), np.array([3, 700]), np.array([4, 1]), tokens.astype(np.float32), mask


def _leaves(prefix, layer):
    """{name in torch: array} of one layer."""
    found = {}
    for name, value in layer.items():
        value = np.asarray(value)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value
        found[f"{prefix}.{'bias' if name == 'bias' else 'weight'}"] = value
    return found


def _part(prefix, part, names):
    found = {}
    for name, layer in part.items():
        if name in ("self", "cross"):
            inner = f"{prefix}.transformer_blocks.0.attn{1 + (name == 'cross')}"
            found |= _part(inner, layer, ATTEND)
        else:
            found |= _leaves(f"{prefix}.{names[name]}", layer)
    return found


def _block(level, n, block):
    found = _part(f"{level}.resnets.{n}", block["residual"], RESIDUAL)
    for kind, names in (("attention", ATTENTION), ("cross", CROSS)):
        if kind in block:
            found |= _part(f"{level}.attentions.{n}", block[kind], names)
    return found


def _resampler(prefix, part):
    return _leaves(f"{prefix}.conv", part) if "kernel" in part else _part(prefix, part, RESIDUAL)


def state(params, names):
    """Our parameters under the names of diffusers."""
    blocks, found = params["blocks"], _leaves("conv_in", params["blocks"]["input_1"]["conv"])
    for n, name in enumerate(("in", "out"), 1):
        found |= _leaves(f"time_embedding.linear_{n}", params["time"][name])
    if "class" in params:
        found["class_embedding.weight"] = np.asarray(params["class"]["embedding"])
    for side, sampler in (("input", "downsamplers"), ("output", "upsamplers")):
        level, n = 0, 0
        for name in (x for x in names[1:] if x.startswith(side)):
            stage = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
            if "residual" in blocks[name]:
                found |= _block(stage, n, blocks[name])
            if "resample" in blocks[name]:
                found |= _resampler(f"{stage}.{sampler}.0", blocks[name]["resample"])
            level, n = (level + 1, 0) if "resample" in blocks[name] else (level, n + 1)
    found |= _block("mid_block", 0, blocks["middle"])
    found |= _part("mid_block.resnets.1", blocks["middle"]["second"], RESIDUAL)
    return (
        found | _leaves("conv_norm_out", params["out"]["norm"]) | _leaves("conv_out", params["out"]["conv"])
    )


def peer(net, params):
    """The network of diffusers with our parameters, in torch."""
    import diffusers
    import torch

    common = {"in_channels": 3, "out_channels": 3, "block_out_channels": (16, 32), "norm_num_groups": 8}
    if net is ADM:
        there = diffusers.UNet2DModel(
            **common,
            down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            layers_per_block=2,
            downsample_type="resnet",
            upsample_type="resnet",
            attention_head_dim=8,
            attn_norm_num_groups=8,
            resnet_time_scale_shift="scale_shift",
            num_class_embeds=5,
        )
    else:
        there = diffusers.UNet2DConditionModel(
            **common,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            layers_per_block=1,
            attention_head_dim=4,  # the number of heads, whatever its name
            cross_attention_dim=12,
            use_linear_projection=True,
        )
    found = {name: torch.tensor(value.copy()) for name, value in state(params, net.blocks).items()}
    there.load_state_dict(found, strict=True)
    return there.eval()


def peer_output(net, params):
    """What the network of diffusers gives for the inputs of this file, [2, 8, 8, 3]."""
    import torch

    x, t, classes, tokens, mask = (torch.tensor(v) for v in inputs())
    with torch.no_grad():
        there, x = peer(net, params), x.permute(0, 3, 1, 2)
        if net is ADM:
            out = there(x, t, class_labels=classes).sample
        else:
            out = there(x, t, tokens, encoder_attention_mask=mask).sample
    return out.permute(0, 2, 3, 1).numpy()


def condition(net):
    """The condition of the same inputs for ours."""
    _, _, classes, tokens, mask = inputs()
    return {"class": classes} if net is ADM else {"tokens": tokens, "mask": mask}
