"""The plug of every experiment: it reads flags, runs, prints tables and verdicts, and saves one JSON.

An experiment brings a ``Config`` dataclass, ``run(cfg) -> Result`` and ``CLAIMS``; everything else is here.
"""

import functools
import inspect
import json
import math
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.layout import table, table_cell
from experiments.shared import flags, inputs, plots
from jaxembed import files, metrics

EXPERIMENTS = pathlib.Path(__file__).parents[1]
SCHEMA = 1
LEAST = 5  # seeds; with fewer a difference is a figure without interval and verdict
REPRODUCED, PARTLY, NOT = "reproduced", "partly", "not reproduced"


class Result(NamedTuple):
    """What a run found.

    Attributes:
        tables: {name: rows}, shown on the page. A row is a dict; beside a mean "x" its spread is "± x".
        details: JSON values that the tables were made from. "seeds" counts them, if not ``Config.seeds``.
            "device" names the device where each kind of it has a run of its own; "seconds" are those of all
            the commands that a sweep took, or None.
        config: the settings with what the run filled in; None where those of the flags are whole.
        closing: text that is printed last, when everything is written.
    """

    tables: dict
    details: dict = {}
    config: object = None
    closing: str = ""


class Answer(NamedTuple):
    """A measured value, its spread or half its interval, and the verdict; None where seeds are too few."""

    value: float | None
    spread: float | None
    verdict: str | None


class Claim(NamedTuple):
    """A sentence of a paper and how a run's tables answer it.

    Attributes:
        source: arXiv id, as in papers.toml; "" for a question of our own.
        sentence: what is claimed, in words.
        ours: ``{**tables, **details} -> Answer``, or None where this run did not ask.
        paper: the paper's own number, where it gives one.
    """

    source: str
    sentence: str
    ours: Callable[[dict], Answer | None]
    paper: float | None = None


def holds(true, value=None, spread=None):
    """The answer of a yes or no: reproduced or not.

    >>> print(holds(False, 0.25).verdict)
    not reproduced
    """
    value, spread = (None if x is None else float(x) for x in (value, spread))
    return Answer(value, spread, REPRODUCED if true else NOT)


def share(bools):
    """Asks several cases: all of them is reproduced, some of them partly. The value is the share.

    >>> print(share([True, False]))
    Answer(value=0.5, spread=None, verdict='partly')
    """
    bools = np.asarray(bools, bool)
    return Answer(float(bools.mean()), None, REPRODUCED if bools.all() else PARTLY if bools.any() else NOT)


def paired(differences, *, margin=0.0, denied=False):
    """Asks paired differences of two arms over seeds: does their 95 % interval lie above a margin?

    The answer has the mean and half of the interval, of several columns those of the worst. Fewer than five
    seeds have no verdict.

    >>> print(paired([0.1, 0.2, 0.3, 0.2, 0.2]).verdict, paired([0.1, 0.2, 0.3]).verdict)
    reproduced None

    Args:
        differences: [S], or [S, P] where all P must be above the margin.
        margin: number, negative where a loss is allowed.
        denied: whether the sentence says that nothing is above the margin.
    """
    x = np.asarray(differences, float).reshape(len(differences), -1)
    if len(x) < LEAST:
        mean = x.mean(axis=0)
        return Answer(float(mean.max() if denied else mean.min()), None, None)
    mean, low, _ = metrics.paired_interval(x)
    worst = int(low.argmax() if denied else low.argmin())
    true = not (low > margin).any() if denied else (low > margin).all()
    return holds(bool(true and np.isfinite(low).all()), mean[worst], mean[worst] - low[worst])


def spread(values):
    """Mean and standard deviation of numbers over seeds, the latter None for one number.

    >>> print(spread([0.25, 0.75]), spread([0.5]))
    (0.5, 0.3535533905932738) (0.5, None)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def answered(claims, result):
    """The answers to the claims that a run asked, as rows of its JSON."""
    numbers, rows = {**result.details, **result.tables}, []
    for claim in claims:
        answer = claim.ours(numbers)
        if answer is not None:
            said = {"paper": claim.source, "sentence": claim.sentence, "paper_value": claim.paper}
            rows.append(said | dict(zip(("ours", "spread", "verdict"), answer, strict=True)))
    return rows


def main(
    name, config, run, claims=(), *, figures=None, quick=None, paper=None, together=(), check=None, runs=None
):
    """Runs an experiment from the command line; an error that names its remedy is one line.

    Args:
        name: how the module is called after ``experiments.``.
        config: dataclass of the settings; its fields are the flags.
        run: ``config -> Result``, or None where nothing is to be saved. A generator yields a Result again and
            again, each with all that is known: each is saved, so that a run that is cut keeps what it has.
        claims: sequence of :class:`Claim`.
        figures: optional ``numbers -> {suffix: draw or (draw, (rows, columns))}`` of :func:`numbers_of`.
        quick, paper: settings of ``--quick`` and ``--paper``, {field: value}.
        together: groups of fields, as ``flags.preset`` takes them.
        check: optional ``config -> None`` that looks at inputs before any work.
        runs: optional usual settings of runs, as ``flags.run_name`` takes them.
    """
    try:
        cfg = flags.parse(name, config)
        label = flags.run_name(cfg, runs)
        presets = {key: value for key, value in (("quick", quick), ("paper", paper)) if value is not None}
        used = flags.preset(cfg, together, **presets) if presets else cfg
        if check is not None:
            check(used)
        if figures is not None:
            inputs.installed("matplotlib")
        began = time.perf_counter()
        result = run(used)
        if inspect.isgenerator(result):
            steps, result = result, None
            for result in steps:
                save(name, label, used, result, claims, round(time.perf_counter() - began))
        if result is not None:
            finish(name, label, used, result, claims, figures, round(time.perf_counter() - began))
    except ImportError as error:
        sys.exit(f"error: {inputs.with_extra(error)}")
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as error:
        print(str(error) or "stopped", file=sys.stderr)
        sys.exit(130)


def finish(name, label, cfg, result, claims, figures, seconds):
    """Prints tables and verdicts and writes the JSON and the pictures of a run; returns the JSON's path."""
    for title, rows in result.tables.items():
        print(f"\n{title}\n{table(rows)}", flush=True)
    for row in answered(claims, result):
        value = "" if row["ours"] is None else f" ({table_cell(row['ours'])})"
        print(f"{row['verdict'] or 'no verdict'}: {row['sentence']}{value}", flush=True)
    path = save(name, label, cfg, result, claims, seconds)
    for written in (path, *draw(path, figures)):
        print(f"wrote {written}")
    if result.closing:
        print(f"\n{result.closing}", flush=True)
    return path


def save(name, label, cfg, result, claims, seconds):
    """Writes the JSON of a run, in one step over that of before; returns its path."""
    label, cfg = on_device(label, result.details), result.config or cfg
    saved = {
        "schema": SCHEMA,
        "experiment": name,
        "run": label,
        "command": shlex.join(["python", "-m", f"experiments.{name}", *map(_shown, sys.argv[1:])]),
        "commit": commit(),
        "machine": machine(),
        "seconds": result.details.get("seconds", seconds),
        "seeds": result.details.get("seeds", getattr(cfg, "seeds", 1)),
        "config": flags.settings(cfg),
        "tables": result.tables,
        "claims": answered(claims, result),
        "details": result.details,
    }
    path = path_of(name, label, cfg.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, finite(saved))
    return path


def on_device(label, details):
    """The name of a run, behind that of the device where ``details`` name one: "nvidia-l4_quick"."""
    kind = re.sub(r"[^a-z0-9]+", "-", details.get("device", "").lower()).strip("-")
    return "_".join([kind, *([label] if label != "default" else [])]) if kind else label


def path_of(name, label, folder=None):
    """The JSON of a run: ``experiments/<name>/results/<run>.json``, in a family ``<story>_<run>.json``."""
    family, _, last = name.rpartition(".")
    stem = label if not family else last if label == "default" else f"{last}_{label}"
    return pathlib.Path(folder or EXPERIMENTS / (family or name) / "results") / f"{stem}.json"


def numbers_of(saved):
    """The tables, details and config of a saved run as one dict."""
    return {**saved["details"], **saved["tables"], "config": saved["config"]}


def draw(path, figures):
    """Draws the pictures of a saved run beside its JSON, without running anything; returns their paths."""
    written = []
    found = figures(numbers_of(json.loads(path.read_text(encoding="utf-8")))) if figures else {}
    for suffix, figure in found.items():
        paint, panels = figure if isinstance(figure, tuple) else (figure, None)
        written.append(path.with_name(f"{'_'.join(filter(None, (path.stem, suffix)))}.png"))
        plots.write(written[-1], paint, panels)
    return written


def _shown(argument):
    """A flag's value as it is saved: of a path outside this folder its last name."""
    outside = argument.startswith(("/", "..", "~"))
    return f"path/to/{pathlib.PurePath(argument).name}" if outside else argument


def machine():
    """What a run was measured on, its largest resident memory, and its CPU time with that of its children."""
    import resource

    import jax

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
        "peak_memory_gb": round(peak / 1e9, 2),
        "cpu_seconds": round(sum(os.times()[:4])),
    }


@functools.cache
def commit():
    """The short hash of the checkout's commit, or None outside a checkout."""
    command = ["git", "-C", str(EXPERIMENTS), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


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
