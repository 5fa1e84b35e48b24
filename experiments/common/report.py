"""What every experiment does with its numbers: a table, a JSON file, a picture."""

import copy
import dataclasses
import hashlib
import math
import os
import pathlib
import platform
import re
import sys
import time

from experiments.common import inputs, plots
from jaxembed import files

RESULTS = pathlib.Path(__file__).parents[1] / "results"
BEGAN = time.perf_counter()


def table(rows, columns=None):
    """Lays rows out as an aligned text table.

    >>> print(table([{"method": "BM25", "mrr": 0.381}, {"method": "encoder", "mrr": None}]))
    method    mrr
    BM25     .381
    encoder     -

    Args:
        rows: list of dicts.
        columns: keys to show, default those of the first row; floats below 10 get three digits.

    Returns:
        str.
    """
    columns = list(rows[0]) if columns is None else list(columns)
    cells = [columns] + [[_cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    left = [not any(isinstance(r.get(c), int | float) for r in rows) for c in columns]
    return "\n".join(
        "  ".join(
            x.ljust(w) if flush else x.rjust(w) for x, w, flush in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in cells
    )


def _cell(value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return (
            f"{value:.3f}".replace("0.", ".", 1)
            if abs(value) < 1
            else f"{value:,.3g}"
            if value < 100
            else f"{value:,.0f}"
        )
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def save(name, numbers, draw=None, folder=None, panels=None):
    """Writes ``name.json`` and, from ``draw(axes)``, ``name.png``; each file is replaced in one step.

    Args:
        name: of the experiment.
        numbers: JSON value; what machine it was measured on is added.
        draw: optional function that draws on matplotlib axes.
        folder: default ``experiments/results``.
        panels: optional (rows, columns) of a picture of several axes; ``draw`` gets their array then.

    Returns:
        The paths written.
    """
    import jax

    folder = pathlib.Path(folder or RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
        "peak_memory_gb": round(peak_memory() / 1e9, 2),
    }
    written = [folder / f"{name}.json"]
    files.write_json(written[0], finite({"machine": machine, **numbers}))
    if draw is not None:
        written.append(folder / f"{name}.png")
        plots.write(written[1], draw, panels)
    for path in written:
        print(f"wrote {path}")
    return written


def finite(value):
    """A JSON value with None in the place of numbers that JSON has not: NaN and infinities.

    >>> finite({"a": [1.5, float("nan")]})
    {'a': [1.5, None]}
    """
    if isinstance(value, dict):
        return {name: finite(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def peak_memory():
    """Returns the largest resident memory of this process so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def check(config, limits, multiples=None, depends=None):
    """Refuses settings outside their limits and tuples that were emptied, by the name of the flag.

    Args:
        config: dataclass.
        limits: {field: (lowest, highest)}, for every entry of a tuple; None passes.
        multiples: optional {field: number that must divide it}.
        depends: optional {field: the field on which its limit or divisor depends}, which an error names where
            the user gave that one alone.
    """
    chosen = given(config)

    def named(name, value):
        by = (depends or {}).get(name)
        cause = f"{flag(by)} {_said(chosen[by])}: beside it, " if by in chosen and name not in chosen else ""
        return f"{cause}{flag(name)} {value}"

    for name, value in chosen.items():
        if value == ():
            raise ValueError(f"{flag(name)}: is empty; give at least one")
    for name, (low, high) in limits.items():
        for value in _entries(config, name):
            if not low <= value <= high:
                raise ValueError(f"{named(name, value)}: choose {low:,} to {high:,}")
    for name, divisor in (multiples or {}).items():
        if getattr(config, name) % divisor:
            raise ValueError(f"{named(name, getattr(config, name))}: choose a multiple of {divisor}")


def at_most(config, name, most, why):
    """Refuses a setting above what only the data or the model tell, with the reason.

    Args:
        config: dataclass.
        name: of a field, of which every entry of a tuple counts; None passes.
        most: number.
        why: text of what has that limit.
    """
    for value in _entries(config, name):
        if value > most:
            raise ValueError(f"{origin(config, name)} {value}: {why}; choose at most {most:,}")


def _entries(config, name):
    value = getattr(config, name)
    return [x for x in (value if isinstance(value, tuple) else (value,)) if x is not None]


def _said(value):
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def flag(name):
    """The flag of a field: "gloss_steps" -> "--gloss-steps"."""
    return f"--{name.replace('_', '-')}"


def origin(config, name):
    """The flag of a field as an error names it: with the preset that set it, where the user did not."""
    preset, fields = vars(config).get("_preset", (None, ()))
    return f"{flag(preset)} sets {flag(name)}" if name in fields else flag(name)


def changed(config, **values):
    """A copy of a dataclass with other values, which are not checked again and not taken for the user's."""
    made = copy.copy(config)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def given(config):
    """The fields of a dataclass that differ from their defaults, as a dict."""
    found = {f.name: (getattr(config, f.name), f.default) for f in dataclasses.fields(config)}
    return {name: value for name, (value, default) in found.items() if value != default}


def exclude(config, name, others):
    """Refuses flags that have no meaning beside another one.

    Args:
        config: dataclass.
        name: of the field that, when it is given, makes the others meaningless.
        others: names of fields.
    """
    chosen = given(config)
    for other in others if name in chosen else ():
        if other in chosen:
            raise ValueError(f"{flag(other)}: has no meaning beside {flag(name)}; leave one of them out")


def preset(config, together=(), **presets):
    """Takes the settings of a flag, such as ``quick``, where the user gave none.

    A value that equals the default counts as none.

    Args:
        config: dataclass.
        together: groups of fields; where one of a group was given, none of it is set.
        **presets: {field of bool: {field: value}}; at most one of those flags may be set.

    Returns:
        A copy whose settings are not checked again: they are those of a preset and of the user.
    """
    on = [name for name in presets if getattr(config, name)]
    if len(on) > 1:
        raise ValueError(f"{flag(on[0])} {flag(on[1])}: choose one of them")
    chosen = given(config)
    kept = {*chosen, *(name for group in together if chosen.keys() & set(group) for name in group)}
    values = {n: v for n, v in (presets[on[0]] if on else {}).items() if n not in kept}
    return changed(config, **values, _preset=(on[0] if on else None, tuple(values)))


OWN = ("pairs", "texts", "table")  # fields that hold files of a user
NAMES = ("beir", "model", "data", "compare", "split")  # fields whose value is a part of the name
PLACES = ("results", "workdir", "query")  # fields on which no result depends


def named(name, config, runs=None):
    """The name of the files of a run: its parts and data, then every setting that differs from the usual one.

    So a run with other settings never has the name of results that are kept.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     sts: str | None = None
    ...     steps: int = 40
    ...     quick: bool = False
    >>> print(named("pooling", Config()), named("pooling", Config(sts="stsb", quick=True)))
    pooling pooling_sts_quick
    >>> usual = {"pooling_sts": {"steps": 2}}
    >>> print(named("pooling", Config(steps=2), usual), named("pooling", Config("stsb", steps=2), usual))
    pooling_steps-2 pooling_sts

    Args:
        name: of the experiment.
        config: its dataclass as the user gave it.
        runs: optional {name: {field: value}}, the usual settings of runs with some parts and data, where they
            are not the defaults.

    Returns:
        str; a long list of settings is cut and ends with a digest of all.
    """
    chosen = given(config)
    base = "_".join([name, *_labels(chosen), *(n for n in ("quick", "paper") if n in chosen)])
    named_already = {*OWN, *NAMES, *PLACES, "parts", "sts", "encoder", "quick", "paper"}
    usual = {f.name: f.default for f in dataclasses.fields(config) if f.name not in named_already}
    usual |= (runs or {}).get(base, {})
    tail = "_".join(_worded(n, getattr(config, n)) for n, x in usual.items() if getattr(config, n) != x)
    if len(tail) > 80:
        tail = f"{tail[:60]}_{hashlib.sha256(tail.encode()).hexdigest()[:8]}"
    return f"{base}_{tail}" if tail else base


def _labels(chosen):
    own = [n for n in OWN if isinstance(chosen.get(n), pathlib.Path)]
    labels = [label for n in own for label in ("own", chosen[n].resolve().stem)]
    labels += [_word(chosen[n]) for n in NAMES if n in chosen]
    if "encoder" in chosen:
        labels.append("encoder")
        labels += [] if inputs.is_installed_model(chosen["encoder"]) else [_word(chosen["encoder"])]
    return labels + [*chosen.get("parts", ()), *(["sts"] if "sts" in chosen else [])]


def _worded(field, value):
    if isinstance(value, bool):
        return field if value else f"no-{field}"
    return f"{field}-{_word(value)}"


def _word(value):
    if isinstance(value, tuple):
        return "-".join(map(_word, value))
    if isinstance(value, pathlib.Path):
        value = value.resolve().name
    return re.sub(r"[^\w.+-]+", "-", f"{value:g}" if isinstance(value, float) else str(value))


def settings(config):
    """The fields of a dataclass as JSON values; of a path its last name, and not where results go."""
    found = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    found = {k: v for k, v in found.items() if k not in inputs.OUTPUTS}
    return {k: v.resolve().name if isinstance(v, pathlib.Path) else v for k, v in found.items()}


def stage(text):
    """Prints a line when a stage begins, with the seconds since the program did; pipes get it at once."""
    print(f"[{time.perf_counter() - BEGAN:.0f} s] {text}", flush=True)


def run(main, config):
    """Runs ``main`` with flags made from a dataclass; an error that names its remedy is one line.

    Before ``main``, the paths among the flags are looked at: inputs exist, outputs can be written.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a pipe gets every line when it is printed
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = None if spec is None else f"python -m {spec.name.removesuffix('.__main__')}"
    try:
        import tyro

        cfg = tyro.cli(config, prog=program)
        inputs.check_paths(cfg)
        inputs.installed("matplotlib")
        main(cfg)
    except ImportError as error:
        sys.exit(f"error: {inputs.with_extra(error)}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as error:
        print(str(error) or "stopped", file=sys.stderr)
        sys.exit(130)
