"""Images: adapters learn a style from four drawings of one digit; DECOR takes that digit out of prompts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shared import flags, results
from experiments.shared.results import Claim
from jaxembed import diffusion, metrics, recipes, weights
from jaxembed.data import toy_drawings

STYLES = list(toy_drawings.STYLES)
LEAKED, STYLE = 5, STYLES.index("striped")  # the digit that leaks, the style that is wanted
WORD, NEW = toy_drawings.DIGIT_WORDS[LEAKED], toy_drawings.SPARE[0]
OTHERS = [n for n in toy_drawings.SEEN_DIGITS if n != LEAKED]  # that the model knows
PATTERN, RANK = r"cross/(query|key|value|out)/kernel", 4
PLAIN, NEGATIVE, ENDS = "LoRA", "LoRA, negative prompt", ", end and padding undesired too"
SCALES = (0.25, 0.5, 0.75)
KEYS = ("asked digit", "leaked digit", "style")
LEAK = KEYS[1]


def few(cfg, seed):
    """(batches [S, B, 8, 8, 1] of four drawings of the leaking digit in the wanted style, all others)."""
    drawn = toy_drawings.drawings()["train"]
    known = drawn["images"][(drawn["digits"] == LEAKED) & (drawn["styles"] == STYLE)]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(known), 4, replace=False)
    batches = known[chosen][rng.integers(4, size=(cfg.lora_steps, cfg.lora_batch))]
    return batches, np.delete(known, chosen, axis=0)


def adapted(cfg, model):
    """Two compiled functions on adapters of the cross-attention: their search, and their loss on images.

    The search is (params, batches, key, rate) -> adapters, the loss (adapters, params, images, key) -> [B].
    """
    loss = diffusion.denoising_loss(model.schedule, model.denoise, prediction="v", drop=0.0)
    ids = model.ids([f"a {NEW} drawing of {WORD}"])

    def loss_fn(adapters, params, images, key):
        states = model.encode(params, ids)
        condition = {"tokens": jnp.broadcast_to(states, (len(images), *states.shape[1:]))}
        params = params | {"unet": weights.low_rank(params["unet"], adapters)}
        return loss(params, {"images": images, "condition": condition}, key)

    @jax.jit
    def run(params, batches, key, rate):
        first, second = jax.random.split(key)
        start = weights.init_low_rank(first, params["unet"], PATTERN, RANK)
        tx = optax.adam(rate)
        return diffusion.search_embeddings(loss_fn, start, params, batches, tx=tx, key=second)[0]

    return run, jax.jit(loss_fn)


def validated(cfg):
    """A row for each rate: the loss on drawings of the training part that no adapter learns, other seeds."""
    model, seeds, rows = recipes.drawing_model(cfg.workdir, steps=cfg.steps), range(100, 100 + cfg.seeds), []
    learn, loss = adapted(cfg, model)
    for rate in cfg.rates:
        flags.stage(f"validation: adapters at rate {rate:g}")
        values = []
        for seed in seeds:
            batches, others = few(cfg, seed)
            adapters = learn(model.params, batches, jax.random.key(seed), rate)
            images = np.repeat(others, 8, axis=0)  # the same times and noise for all rates
            values.append(float(loss(adapters, model.params, images, jax.random.key(1)).mean()))
        row = {"rate": f"{rate:g}"}
        row["held-out"], row["± held-out"] = results.spread(values)
        rows.append(row | {"runs": values})
    return rows


def states_of(model, strengths):
    """{arm: (scale of the adapters, states [8, L, D] of the prompts, null states [L, D])}."""
    prompts = [f"a {NEW} drawing of {toy_drawings.DIGIT_WORDS[n]}" for n in OTHERS]
    states, null = model.encode(model.params, model.ids(prompts)), model.null(model.params)["tokens"]
    ids = model.ids([WORD])
    undesired, word = model.encode(model.params, ids)[0], ids[0] == 4 + model.words.index(WORD)
    found = {PLAIN: (1.0, states, null)}
    found |= {f"{PLAIN}, scale {s:g}": (s, states, null) for s in SCALES}
    found[NEGATIVE] = (1.0, states, undesired)
    rows = {"": word, ENDS: np.arange(len(word)) > 0}
    for name, where in rows.items():
        for s in strengths:
            new = diffusion.decor(states, undesired, where=where, strength=s)
            found[f"DECOR {s:g}{name}"] = (1.0, new, null)
    return found


def sampler(cfg, model):
    """A compiled ``(params, adapters, scale, key, states, null) -> images`` that all arms share."""

    @jax.jit
    def run(params, adapters, scale, key, states, null):
        params = params | {"unet": weights.low_rank(params["unet"], adapters, scale)}
        guided = diffusion.guided(model.denoise, cfg.guidance, {"tokens": null})
        options = {"prediction": "v", "spacing": "trailing", "clip": 1.0, "steps": cfg.sampling}
        shape = (len(states), *model.shape)
        return diffusion.sample(
            guided, params, model.schedule, key, shape, condition={"tokens": states}, **options
        )

    return run


def drawn(cfg, seeds=None):
    """Rows of every arm and seed, and a gallery {arm: images of one seed}."""
    model, known = recipes.drawing_model(cfg.workdir, steps=cfg.steps), toy_drawings.drawings()["train"]
    judges = [metrics.fit_judge(known["images"], known[name]) for name in ("digits", "styles")]
    learn, run, digits = adapted(cfg, model)[0], sampler(cfg, model), np.repeat(OTHERS, cfg.repeats)
    arms, rows, gallery = states_of(model, cfg.strengths), [], {}
    for seed in range(cfg.seeds) if seeds is None else seeds:
        flags.stage(f"adapters, seed {seed}: {cfg.lora_steps} steps, then {len(arms)} ways to draw")
        adapters = learn(model.params, few(cfg, seed)[0], jax.random.key(seed), cfg.lora_rate)
        for arm, (scale, states, null) in arms.items():
            given = (jnp.float32(scale), jax.random.key(seed), jnp.repeat(states, cfg.repeats, axis=0), null)
            images = np.asarray(run(model.params, adapters, *given))
            told, style = (np.asarray(judge(images)) for judge in judges)
            row = {"seed": seed, "arm": arm, "asked digit": float(np.mean(told == digits))}
            row |= {"leaked digit": float(np.mean(told == LEAKED)), "style": float(np.mean(style == STYLE))}
            rows.append(row)
            if arm not in gallery:
                gallery[arm] = np.round(images[:: cfg.repeats, ..., 0], 2).tolist()
    return rows, gallery


def column(t, arm, key):
    """[S]: a number of an arm by seed; None where the run has no such arm."""
    found = [r[key] for r in t.get("customised", ()) if r["arm"] == arm]
    return np.array(found) if found else None


def sweep(t, rows=""):
    """Names of the arms of DECOR with one choice of undesired rows."""
    return [f"DECOR {s:g}{rows}" for s in t["strengths"]]


def better(t, rows=""):
    """Whether one strength gains 10 points of asked digits and loses 5 points of style at most."""
    if column(t, PLAIN, "style") is None:
        return None
    found = []
    for arm in sweep(t, rows):
        gain, lost = (column(t, arm, k) - column(t, PLAIN, k) for k in ("asked digit", "style"))
        answers = results.paired(gain, margin=0.1), results.paired(lost, margin=-0.05)
        found.append((all(a.verdict == results.REPRODUCED for a in answers), answers[0].value, answers[0]))
    true, _, gain = max(found, key=lambda x: x[:2])
    return gain if gain.verdict is None else results.holds(true, gain.value, gain.spread)


def front(t):
    """The share of the points of weaker adapters that a point of DECOR beats, on means over seeds."""
    arms = [f"{PLAIN}, scale {s:g}" for s in SCALES]
    if column(t, PLAIN, "style") is None:
        return None
    mean = lambda arm: [column(t, arm, k).mean() for k in ("asked digit", "style")]  # noqa: E731
    ours = [mean(arm) for rows in ("", ENDS) for arm in sweep(t, rows)]
    beaten = [not bool(metrics.pareto_front(np.array([mean(arm), *ours]))[0]) for arm in arms]
    return results.share(beaten)


def compared(high, low, key, margin=0.0):
    """Asks whether a number of one arm is above that of another by a margin."""

    def ours(t):
        one, two = column(t, high, key), column(t, low, key)
        return None if one is None or two is None else results.paired(one - two, margin=margin)

    return ours


CLAIMS = (
    Claim(
        "2412.09169",
        "A strength of DECOR gains 10 points of asked digits over LoRA and loses 5 points of style at most",
        better,
    ),
    Claim("2412.09169", "DECOR beats each weaker scale of the adapters in digit and style", front),
    Claim(
        "",
        "With the end and padding of the undesired prompt, a strength gains 10 points at 5 of style at most",
        lambda t: better(t, ENDS),
    ),
    Claim(
        "",
        "The leak is real: LoRA draws the digit of its four images in a tenth of other prompts or more",
        lambda t: None if column(t, PLAIN, "style") is None else results.paired(column(t, PLAIN, LEAK) - 0.1),
    ),
)


def gallery(axes, numbers):
    """A row of drawings for each arm, one of each asked digit."""
    rows = {"real, held out": real(), **numbers["gallery"]}
    axes[0, 0].figure.set_size_inches(12, 0.62 * len(rows) + 0.7)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        grid = np.pad(np.array(images), ((0, 0), (0, 0), (0, 1)), constant_values=0)
        row[0].imshow(grid.transpose(1, 0, 2).reshape(8, -1), cmap="gray_r", vmin=-1, vmax=1)
        row[0].set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    asked = " ".join(str(n) for n in OTHERS)
    axes[0, 0].set_title(f'asked for "a {NEW} drawing of" {asked}; adapters saw striped fives', fontsize=9)


def real():
    """Held-out drawings of the other digits in the wanted style, [8, 8, 8]."""
    drawn = toy_drawings.drawings()["test"]
    places = [np.flatnonzero((drawn["digits"] == n) & (drawn["styles"] == STYLE))[0] for n in OTHERS]
    return drawn["images"][places][..., 0]
