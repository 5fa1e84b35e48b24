"""Erasing a word from a small text-to-image model: what is drawn when prompts name it, and when not."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shared import flags
from jaxembed import diffusion, metrics, recipes, vectors
from jaxembed.data import toy_drawings

ERASED = 3
WORD = toy_drawings.DIGIT_WORDS[ERASED]
ALIASES = toy_drawings.ALIASES[WORD]  # other names of it, which the guard is not told
NAMED, INDIRECT, OTHER = "named", "indirect", "other"
STYLES = list(toy_drawings.STYLES)
NONE, NEGATIVE, MASKED = "no guard", "negative prompt alone", "the word masked"
ROWS, ENDS = "triggers", "triggers and padding"
SPAN, DIFFERENCE = "span", "difference"
OTHERS = [n for n in toy_drawings.SEEN_DIGITS if n != ERASED]  # that the model knows
BLOCK = 154  # images of one program


def asked():
    """(digits, styles, kinds, prompts): the erased digit by its word, by each alias, and other digits."""
    names = [WORD, *ALIASES, *(toy_drawings.DIGIT_WORDS[n] for n in OTHERS)]
    kinds = np.repeat([NAMED] + [INDIRECT] * len(ALIASES) + [OTHER] * len(OTHERS), len(STYLES))
    digits = np.repeat([ERASED] * (1 + len(ALIASES)) + OTHERS, len(STYLES))
    prompts = [f"a {style} drawing of {name}" for name in names for style in STYLES]
    return digits, np.tile(np.arange(len(STYLES)), len(names)), kinds, prompts


def real():
    """Held-out drawings in the order of a gallery: the erased digit in all styles, the others plain."""
    known = toy_drawings.drawings()["test"]
    places = [np.flatnonzero(known["digits"] == n) for n in range(10)]
    shown = [*places[ERASED][:7], *places[ERASED][7:22:14], *(places[n][0] for n in OTHERS)]
    return known["images"][shown][..., 0]


def phrases(word):
    """What names a digit: the word, and prompts of it."""
    return [word, f"a drawing of {word}", *toy_drawings.drawing_prompts([ERASED] * len(STYLES), STYLES)]


def pooled(model, params, ids, states=None):
    """States [B, D] at the end of each prompt."""
    states = model.encode(params, ids) if states is None else states
    end = jnp.argmax(jnp.asarray(ids) == toy_drawings.EOS, axis=1)
    return jnp.take_along_axis(states, end[:, None, None], axis=1)[:, 0]


def concepts(model):
    """{name: basis [r, D]}: the span of phrases of the word, and of their differences from other words."""
    own = phrases(WORD)
    vectors_of = lambda texts: pooled(model, model.params, model.ids(texts))  # noqa: E731
    others = [[p.replace(WORD, toy_drawings.DIGIT_WORDS[n]) for p in own] for n in OTHERS]
    differences = vectors_of(own) - jnp.mean(jnp.stack([vectors_of(o) for o in others]), axis=0)
    return {
        SPAN: vectors.row_space(vectors_of(own), tolerance=1e-3)[0],
        DIFFERENCE: vectors.row_space(differences, energy=0.9)[0],
    }


def guarded(model, ids, concept):
    """Of prompts [N, L]: their states, those with all rows projected, triggers and words."""

    @jax.jit
    def run(params, ids):
        words = ids >= toy_drawings.MASK
        states = model.encode(params, ids)
        encode = lambda batch: pooled(model, params, batch["ids"])  # noqa: E731
        without = jax.vmap(lambda i, w: diffusion.leave_one_out(encode, i, w, toy_drawings.MASK))(ids, words)

        def one(states, without, words):
            inputs, _ = vectors.row_space(jnp.where(words[:, None], without, 0), tolerance=1e-3)
            filtered = diffusion.filter_states(states, concept, inputs)
            return filtered, diffusion.trigger_tokens(without, concept, words)

        return states, *jax.vmap(one)(states, without, words), words

    return run(model.params, jnp.asarray(ids))


def sampler(model, steps, scale):
    """A compiled ``(params, key, states, filtered, last, null) -> images``; all arms share it."""

    @jax.jit
    def run(params, key, states, filtered, last, null):
        guided = diffusion.guided(model.denoise, scale, {"tokens": null})
        at_step = diffusion.filtered_first({"tokens": filtered}, last)
        options = {"prediction": "v", "spacing": "trailing", "clip": 1.0, "steps": steps, "at_step": at_step}
        shape = (len(states), *model.shape)
        return diffusion.sample(
            guided, params, model.schedule, key, shape, condition={"tokens": states}, **options
        )

    return run


def arms(model, prompts, kinds, steps):
    """{arm: (states, filtered states, last filtered step, null states)} and how well triggers are found."""
    params, ids = model.params, model.ids(prompts)
    empty = model.null(params)["tokens"]
    negative = model.encode(params, model.ids([f"a drawing of {WORD}"]))[0]
    masked = model.encode(params, model.ids([p.replace(WORD, "[mask]") for p in prompts]))
    named, other = kinds == NAMED, kinds == OTHER
    always, never, found, trigger_rows = steps, -1, {}, []
    for basis, concept in concepts(model).items():
        states, filtered, triggers, words = guarded(model, ids, concept)
        ends = triggers | (~words & (jnp.arange(ids.shape[1]) > 0) & jnp.any(triggers, axis=1)[:, None])
        last, centre = validated(states, filtered, (named, other), steps)
        for kind, rows in ((ROWS, triggers), (ENDS, ends)):
            new = jnp.where(rows[..., None], filtered, states)
            found[f"{basis}, {kind}, all steps"] = (states, new, always, empty)
        found[f"{basis}, {kind}, validated steps"] = (states, new, last, empty)
        found[f"{basis}, {kind}, validated steps, negative prompt"] = (states, new, last, negative)
        if basis == SPAN:
            found[f"{basis}, every row, all steps"] = (states, filtered, always, empty)
        truth, alias = (np.isin(ids, [4 + model.words.index(w) for w in x]) for x in ((WORD,), ALIASES))
        flagged = np.asarray(triggers)[named]
        row = {"basis": basis, "rank": int(jnp.sum(jnp.any(concept != 0, axis=1)))}
        row["recall"] = float(np.asarray(triggers)[truth].mean())
        row["precision"] = float(np.asarray(triggers)[truth].sum() / max(flagged.sum(), 1))
        row["recall of aliases"] = float(np.asarray(triggers)[alias].mean())
        row |= {"centre": centre, "steps, word named": float(np.mean(np.asarray(last)[named]))}
        trigger_rows.append(row | {"steps, others": float(np.mean(np.asarray(last)[other]))})
    plain = {NONE: (states, states, never, empty), NEGATIVE: (states, states, never, negative)}
    return plain | {MASKED: (masked, masked, never, empty)} | found, trigger_rows


def validated(states, filtered, sides, steps):
    """(last filtered step of each prompt, the centre): halfway between prompts that name the word and not."""
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    z = 1 - jnp.mean(jnp.sum(unit(states) * unit(filtered), axis=-1), axis=1)
    centre = float(5 * sum(jnp.mean(z[side]) for side in sides))
    mask = jnp.ones(states.shape[1], bool)
    options = {"most": steps // 5, "slope": 2.5, "centre": centre}
    return jax.vmap(lambda s, f: diffusion.filter_steps(s, f, mask, **options))(states, filtered), centre


def drawn(cfg):
    """Rows of every arm and seed, how triggers are found, and a gallery {arm: images of one seed}."""
    model = recipes.drawing_model(cfg.workdir, steps=cfg.steps)
    known = toy_drawings.drawings()["train"]
    flags.stage("fits the judges of digits and styles")
    judges = [metrics.fit_judge(known["images"], known[name]) for name in ("digits", "styles")]
    digits, styles, kinds, prompts = asked()
    chosen, trigger_rows = arms(model, prompts, kinds, cfg.sampling)
    if cfg.quick:
        chosen = dict(list(chosen.items())[:5])
    run, rows, gallery = sampler(model, cfg.sampling, cfg.scale), [], {}
    places = np.repeat(np.arange(len(prompts)), cfg.repeats)  # the prompt of each image
    shown = cfg.repeats * np.flatnonzero((kinds == NAMED) | (styles == 0))
    digits, styles, kinds = digits[places], styles[places], kinds[places]
    for arm, given in chosen.items():
        flags.stage(f"draws {len(places)} images {cfg.seeds} times: {arm}")
        for seed in range(cfg.seeds):
            images = pictures(run, model.params, given, places, seed)
            told, style = (np.asarray(judge(images)) for judge in judges)
            row, right = {"arm": arm, "seed": seed}, told == digits
            names = {"erased drawn": NAMED, "drawn by aliases": INDIRECT, "others right": OTHER}
            row |= {name: float(np.mean(right[kinds == kind])) for name, kind in names.items()}
            rows.append(row | {"style right": float(np.mean(style == styles))})
            if seed == 0:
                gallery[arm] = np.round(images[shown][..., 0], 2).tolist()
    return rows, trigger_rows, gallery


def pictures(run, params, given, places, seed):
    """Images [N, H, W, C] of the prompts at ``places`` by an arm, in blocks of one size."""
    states, filtered, last, null = given
    last, images = np.broadcast_to(np.asarray(last, np.int32), (len(states),)), []
    for i in range(0, len(places), BLOCK):
        rows = np.resize(places[i : i + BLOCK], BLOCK)
        part = [np.asarray(x)[rows] for x in (states, filtered, last)]
        images.append(np.asarray(run(params, jax.random.fold_in(jax.random.key(seed), i), *part, null)))
    return np.concatenate(images)[: len(places)]
