"""Real text that this machine holds: Python among licences, Perl modules and C headers, cut into pieces."""

import os
import pathlib
import sysconfig

import numpy as np

PYTHON = "Python"
PLACES = {
    PYTHON: ((sysconfig.get_path("stdlib"),), ("*.py",)),
    "licences": (("/usr/share/doc", "/usr/share/common-licenses"), ("copyright", "GPL*", "LGPL*", "Apache*")),
    "Perl": (("/usr/share/perl", "/usr/share/perl5", "/usr/lib"), ("*.pm", "*.pl")),
    "headers": (("/usr/include", sysconfig.get_path("include"), sysconfig.get_path("purelib")), ("*.h",)),
}
PER_FILE = 40  # pieces of one file, so that no long file fills a part
PARTS = ("pool", "target", "validation", "test")  # each file of Python is in one of them


def pieces_of(path, length, most=None):
    """The pieces of a file that are plain ASCII, uint8 [n, length]; a shorter rest is left out."""
    content = np.fromfile(path, np.uint8) if os.access(path, os.R_OK) else np.zeros(0, np.uint8)
    found = content[: len(content) // length * length].reshape(-1, length)
    found = found[((found < 127) & ((found >= 32) | (found == 10) | (found == 9))).all(axis=1)]
    if most is not None and len(found) > most:
        found = found[np.linspace(0, len(found) - 1, most).astype(int)]
    return found


def files_of(kind):
    """The files of a kind, sorted; packages that pip installed do not count as Python's own."""
    folders, patterns = PLACES[kind]
    found = set()
    for folder in {str(pathlib.Path(f).resolve()) for f in folders if f}:
        for pattern in patterns:
            found.update(p for p in pathlib.Path(folder).rglob(pattern) if p.is_file())
    if kind == PYTHON:
        found = {p for p in found if not {"site-packages", "dist-packages"} & set(p.parts)}
    return sorted(found)


def kind_pieces(kind, length, wanted, rng):
    """Distinct pieces of a kind and the files that they are from, at most ``wanted``, in random order."""
    files, parts, numbers = files_of(kind), [], []
    for n in rng.permutation(len(files)):
        parts.append(pieces_of(files[n], length, PER_FILE))
        numbers.append(np.full(len(parts[-1]), n))
        if sum(map(len, parts)) > 2 * wanted:
            break
    if not parts:
        return np.zeros((0, length), np.uint8), np.zeros(0, int)
    pieces, numbers = np.concatenate(parts), np.concatenate(numbers)
    _, first = np.unique(pieces, axis=0, return_index=True)
    rows = rng.permutation(first)[:wanted]
    return pieces[rows], numbers[rows]


def world(cfg):
    """All pieces that the seeds draw from: ``pieces`` [N, length], ``kind`` [N], and rows by part.

    Files of Python are split into a pool, a target, a validation and a test part, so that no file is in two.
    """
    rng, kinds = np.random.default_rng(0), [k for k in PLACES if k != PYTHON]
    wanted = 6 * (cfg.hidden + cfg.examples + cfg.test)
    own, files = kind_pieces(PYTHON, cfg.length, wanted, rng)
    part = np.random.default_rng(1).choice(4, files.max(initial=0) + 1, p=(0.4, 0.2, 0.2, 0.2))[files]
    rest = {k: kind_pieces(k, cfg.length, -(-cfg.pieces // 2), rng)[0] for k in kinds}
    rest = {k: x for k, x in rest.items() if len(x)}
    rows = {name: np.flatnonzero(part == i) for i, name in enumerate(PARTS)}
    needed = {"pool": cfg.hidden, "target": cfg.examples, "validation": cfg.test, "test": cfg.test}
    known, others = sum(map(len, rest.values())), cfg.pieces - cfg.hidden
    if known < others or any(len(rows[name]) < count for name, count in needed.items()):
        raise ValueError(
            f"--pieces {cfg.pieces}: this machine has {len(own)} pieces of Python and {known} others, too "
            "few; lower --pieces, --hidden, --examples or --test"
        )
    names = np.repeat([PYTHON, *rest], [len(own), *map(len, rest.values())])
    rows["others"] = len(own) + np.arange(known)
    return {"pieces": np.concatenate([own, *rest.values()]), "kind": names, "rows": rows}


def draw(cfg, found, seed):
    """The rows of one seed: pool, prior (a random slice of it), target, test; which of the pool is Python."""
    rng, rows = np.random.default_rng(seed + 100), found["rows"]

    def some(name, count):
        return rng.choice(rows[name], count, replace=False)

    pool = rng.permutation(
        np.concatenate([some("pool", cfg.hidden), some("others", cfg.pieces - cfg.hidden)])
    )
    return {
        "pool": pool,
        "python": found["kind"][pool] == PYTHON,
        "prior": rng.choice(pool, max(1, round(cfg.prior_share * len(pool))), replace=False),
        "target": some("target", cfg.examples),
        "test": some("validation" if cfg.validate else "test", cfg.test),
    }
