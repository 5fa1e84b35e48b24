"""Runs of an experiment's story without a command line."""

import json

from experiments.shared import flags, results


def ran(story, folder, figures=None, **given):
    """Runs a story with some settings and returns what it saves in a folder, as the JSON holds it."""
    cfg = story.Config(**given, results=folder)
    label = flags.run_name(cfg, getattr(story, "RUNS", None))
    presets = {name: getattr(story, name.upper(), None) for name in ("quick", "paper")}
    used = flags.preset(cfg, **{name: x for name, x in presets.items() if x is not None})
    story.look(used)
    name = story.__name__.removeprefix("experiments.")
    path = results.finish(name, label, used, story.run(used), story.CLAIMS, figures, 0)
    return json.loads(path.read_text())
