"""The command line of an experiment: a dataclass as flags, presets, limits, and a name for every run."""

import argparse
import copy
import dataclasses
import hashlib
import pathlib
import re
import sys
import time
import typing

from experiments.shared import inputs

BEGAN = time.perf_counter()
OWN = ("pairs", "texts", "table", "interactions", "items")  # fields that hold files of a user
NAMES = ("beir", "model", "data", "compare", "split", "prior")  # fields whose value is a part of the name
PLACES = ("results", "workdir", "query")  # fields on which no result depends


def flag(name):
    """The flag of a field: "gloss_steps" -> "--gloss-steps"."""
    return f"--{name.replace('_', '-')}"


def given(config):
    """The fields of a dataclass that differ from their defaults, as a dict."""
    found = {f.name: (getattr(config, f.name), f.default) for f in dataclasses.fields(config)}
    return {name: value for name, (value, default) in found.items() if value != default}


def check(config, limits, multiples=None, depends=None):
    """Refuses settings outside their limits and tuples that were emptied, by the name of the flag.

    Args:
        config: dataclass.
        limits: {field: (lowest, highest)}, for every entry of a tuple; None passes.
        multiples: optional {field: number that must divide every entry}.
        depends: optional {field: the field that sets its limit}, named where the user gave that one alone.
    """
    chosen = given(config)

    def named(name, value):
        by = (depends or {}).get(name)
        if by not in chosen or name in chosen:
            return f"{flag(name)} {value}"
        said = " ".join(map(str, chosen[by])) if isinstance(chosen[by], tuple) else chosen[by]
        return f"{flag(by)} {said}: with it, {flag(name)} {value}"

    for name, value in chosen.items():
        if value == ():
            raise ValueError(f"{flag(name)}: is empty; give at least one")
    for name, (low, high) in limits.items():
        for value in _entries(config, name):
            if not low <= value <= high:
                raise ValueError(f"{named(name, value)}: choose {low:,} to {high:,}")
    for name, divisor in (multiples or {}).items():
        for value in (x for x in _entries(config, name) if x % divisor):
            raise ValueError(f"{named(name, value)}: choose a multiple of {divisor}")


def at_most(config, name, most, why):
    """Refuses a setting above ``most``, which only the data or the model tell; ``why`` says what has it."""
    for value in _entries(config, name):
        if value > most:
            raise ValueError(f"{origin(config, name)} {value}: {why}; choose at most {most:,}")


def enough_pairs(config, count, least):
    """Refuses a file of --pairs with fewer than ``least`` pairs."""
    if config.pairs is not None and count < least:
        raise ValueError(f"--pairs {config.pairs}: holds {count} pair{'s' * (count != 1)}; give more")


def _entries(config, name):
    value = getattr(config, name)
    return [x for x in (value if isinstance(value, tuple) else (value,)) if x is not None]


def origin(config, name):
    """The flag of a field as an error names it: with the preset that set it, where the user did not."""
    preset, fields = vars(config).get("_preset", (None, ()))
    return f"{flag(preset)} sets {flag(name)}" if name in fields else flag(name)


def exclude(config, name, others):
    """Refuses the flags of ``others``, which have no meaning with that of ``name``."""
    chosen = given(config)
    for other in [o for o in others if {name, o} <= chosen.keys()]:
        raise ValueError(f"{flag(other)}: has no meaning with {flag(name)}; leave one of them out")


def changed(config, **values):
    """A copy of a dataclass with other values, which are not checked again and not taken for the user's."""
    made = copy.copy(config)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def preset(config, together=(), **presets):
    """Takes the settings of a flag, such as ``quick``, where the user gave none or the default, unchecked.

    Args:
        config: dataclass.
        together: groups of fields; where one of a group was given, none of it is set.
        **presets: {field of bool: {field: value}}; at most one of those flags may be set.
    """
    on = [name for name in presets if getattr(config, name)]
    if len(on) > 1:
        raise ValueError(f"{flag(on[0])} {flag(on[1])}: choose one of them")
    chosen = given(config)
    kept = {*chosen, *(name for group in together if chosen.keys() & set(group) for name in group)}
    values = {n: v for n, v in (presets[on[0]] if on else {}).items() if n not in kept}
    return changed(config, **values, _preset=(on[0] if on else None, tuple(values)))


def run_name(config, runs=None):
    """The name of a run: its parts and data, then every setting that differs from that of kept results.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     sts: str | None = None
    ...     steps: int = 40
    ...     quick: bool = False
    >>> print(run_name(Config()), run_name(Config(sts="stsb", quick=True)))
    default sts_quick
    >>> usual = {"sts": {"steps": 2}}
    >>> print(run_name(Config(steps=2), usual), run_name(Config("stsb", steps=2), usual))
    steps-2 sts

    A long list of settings is cut and ends with a digest of all.

    Args:
        config: the dataclass as the user gave it.
        runs: optional {name: {field: value}}, usual settings of runs with some data, added to the defaults.
    """
    chosen = given(config)
    base = "_".join([*_labels(chosen), *(n for n in ("quick", "paper") if n in chosen)])
    named_already = {*OWN, *NAMES, *PLACES, "parts", "sts", "encoder", "quick", "paper"}
    usual = {f.name: f.default for f in dataclasses.fields(config) if f.name not in named_already}
    usual |= (runs or {}).get(base, {})
    tail = "_".join(_worded(n, getattr(config, n)) for n, x in usual.items() if getattr(config, n) != x)
    if len(tail) > 80:
        tail = f"{tail[:60]}_{hashlib.sha256(tail.encode()).hexdigest()[:8]}"
    return "_".join(filter(None, (base, tail))) or "default"


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


def parse(name, config, arguments=None):
    """The settings of an experiment, a dataclass, from its command line; paths among them are looked at."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a pipe gets every line when it is printed
    program = f"python -m experiments.{name}"
    try:
        import tyro
    except ModuleNotFoundError:
        cfg = plainly(config, program, arguments)
    else:
        cfg = tyro.cli(config, prog=program, args=arguments)
    inputs.check_paths(cfg)
    return cfg


def plainly(config, program, arguments=None):
    """The settings of a dataclass from the same flags, read by argparse where tyro is not installed."""
    parser = argparse.ArgumentParser(program, description=config.__doc__, allow_abbrev=False)
    for field in dataclasses.fields(config):
        kind, options = field.type, {"default": field.default, "help": f"default: {field.default}"}
        while inner := [x for x in typing.get_args(kind) if x not in (type(None), ...)]:
            options |= {"nargs": "*"} if typing.get_origin(kind) is tuple else {}
            options |= {"choices": inner} if typing.get_origin(kind) is typing.Literal else {}
            kind = type(inner[0]) if "choices" in options else inner[0]
        options |= {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        parser.add_argument(flag(field.name), **options)
    found = vars(parser.parse_args(arguments))
    return config(**{name: tuple(x) if isinstance(x, list) else x for name, x in found.items()})
