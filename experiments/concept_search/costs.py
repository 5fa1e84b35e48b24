"""What a step of a search costs, by the size of the text encoder; parameters are random."""

import functools

import jax
import jax.numpy as jnp

from experiments.benchmarks import timing
from jaxembed import diffusion, encoders
from jaxembed.recipes import text_to_image

BESIDE = "a step of ConES, as shares of one of textual inversion"
EACH, ONCE, STATES = "a prompt for each image", "one prompt for all images", "ConES"
SIZES = ((text_to_image.LAYERS, text_to_image.WIDTH), (6, 128))  # layers and width


def slopes(layers, width, images, length=text_to_image.LENGTH, place=5):
    """{step: (jitted gradient, its arguments)}; the concept is row ``place`` of a prompt of ``length``."""
    embed = lambda params, batch: (batch["rows"], jnp.ones(batch["rows"].shape[:2], bool))  # noqa: E731
    options = {"positions": length, "causal": True, "unroll": layers, "heads": text_to_image.HEADS}
    text = encoders.transformer(lambda key: {}, embed, width=width, layers=layers, **options)
    network = encoders.unet(**text_to_image.NETWORK, channels=1, context=width)
    keys, schedule = jax.random.split(jax.random.key(0), 3), diffusion.schedule("linear", text_to_image.STEPS)
    params = {"text": text.init(keys[0]), "unet": network.init(keys[1])}
    prompt, late = jax.random.normal(keys[2], (length, width)), jnp.arange(length)[:, None] >= place

    def encoded(count):
        def states(token, params, prompt):
            rows = jnp.broadcast_to(prompt.at[place].set(token), (count, length, width))
            return text.hidden(params["text"], {"rows": rows})["tokens"]

        return states

    def slope(states):
        def loss_fn(found, params, prompt, images, key):
            def denoise(params, x, t, condition, inner):
                tokens = jnp.broadcast_to(states(found, params, prompt), (len(x), length, width))
                return network.denoise(params["unet"], x, t, {"tokens": tokens}, inner)

            loss = diffusion.denoising_loss(schedule, denoise, prediction="v", drop=0.0)
            return jnp.mean(loss(params, {"images": images}, key))

        return jax.jit(jax.grad(loss_fn))

    found = {EACH: (encoded(len(images)), prompt[place]), ONCE: (encoded(1), prompt[place])}
    found[STATES] = (lambda rows, params, prompt: jnp.where(late, rows, prompt), prompt)
    rest = params, prompt, images, keys[0]
    return {name: (slope(states), (start, *rest)) for name, (states, start) in found.items()}


def compared(images, repeats=20):
    """Rows: a step of ConES as shares of one of textual inversion, operations and the shortest time."""
    rows = []
    for layers, width in SIZES:
        steps = slopes(layers, width, images)
        flops = {n: f.lower(*given).cost_analysis()["flops"] for n, (f, given) in steps.items()}
        calls = {name: functools.partial(f, *given) for name, (f, given) in steps.items()}
        seconds = {name: t["least"] for name, t in timing.in_turns(calls, repeats).items()}
        for name in (EACH, ONCE):
            row = {"text encoder": f"{layers} layers of width {width}", "textual inversion encodes": name}
            row |= {"operations": flops[STATES] / flops[name], "time": seconds[STATES] / seconds[name]}
            rows.append(row | {"ms": 1000 * seconds[STATES]})
    return rows
