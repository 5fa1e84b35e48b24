"""A corpus of your own: every piece of its files is scored, and the names of the best are written."""

import hashlib
import json

import numpy as np

from experiments.language_selection.arms import both
from jaxembed import data, extras, files

SHARD = 8192  # pieces that are scored between two saves
SAMPLE = 40_000  # pieces of the pool, at most, that the prior is trained on


def pieces_of(folder, length, name):
    """Where the pieces of all files of a folder are: files, then [N, 2] of (file, first byte).

    A last piece may be shorter, but not than 2 bytes. Hidden files, and files that hold a zero byte in their
    first 4,096, which text does not, are left out.
    """
    found, places = [], []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        size = path.stat().st_size
        with open(path, "rb") as file:
            if b"\0" in file.read(4096):
                continue
        starts = np.arange(0, max(size - 1, 0), length)
        places.append(np.stack([np.full(len(starts), len(found)), starts], axis=1))
        found.append(path)
    places = np.concatenate(places) if places else np.zeros((0, 2), int)
    if not len(places):
        raise ValueError(f"--{name} {folder}: holds no text file of two bytes or more; check the path")
    return found, places


def bytes_at(found, places, length):
    """The pieces at some places as a list of bytes."""
    out, opened, number = [], None, None
    for n, start in places:
        if n != number:
            opened, number = np.memmap(found[n], np.uint8, "r"), n
        out.append(opened[start : start + length].tobytes())
    return out


def scorer(cfg, sample, target):
    """The scores of models that count, as a function of a list of bytes."""
    rows = [_padded(x, cfg.length) for x in (sample, target)]
    strings = data.byte_strings(np.concatenate(rows))
    prior, own = (data.count_strings(strings, data.string_places(strings, x)) for x in rows)
    models = (prior, both(prior, own, cfg.weight))

    def scores(texts):
        found = data.string_places(strings, _padded(texts, cfg.length))
        rows, given = np.arange(len(texts)), {"smoothing": cfg.smoothing}
        return data.conditional_loss_reduction(*(data.byte_losses(m, found, rows, **given) for m in models))

    return scores


def _padded(texts, length):
    """uint8 [N, length]; a shorter text is repeated, which its mean hardly notices."""
    return np.stack([np.resize(np.frombuffer(x, np.uint8), length) for x in texts])


def write_kept(cfg):
    """Scores the pool shard by shard, and writes ``kept.tsv``; a run that was stopped goes on."""
    found, places = pieces_of(cfg.pool, cfg.length, "pool")
    wanted, rows = pieces_of(cfg.target, cfg.length, "target")
    keep = int(cfg.keep * len(places))
    if not keep:
        raise ValueError(f"--keep {cfg.keep}: of {len(places)} pieces none is left; raise it")
    state = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in (*found, *wanted)]
    told = [state, cfg.length, cfg.smoothing, cfg.weight, cfg.prior_share]
    folder = cfg.workdir / hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    scores = np.concatenate(list(_scored(cfg, folder, found, places, bytes_at(wanted, rows, cfg.length))))
    kept = data.select(scores, keep)
    path = cfg.workdir / "kept.tsv"
    with files.written(path) as file:
        file.write(b"file\tfirst byte\tbytes\tscore\n")
        for row in kept:
            own, start = found[places[row, 0]], int(places[row, 1])
            size = min(cfg.length, own.stat().st_size - start)
            file.write(f"{own.relative_to(cfg.pool)}\t{start}\t{size}\t{scores[row]:.5f}\n".encode())
    print(f"kept {len(kept):,} of {len(places):,} pieces in {len(found):,} files; wrote {path}")


def _scored(cfg, folder, found, places, target):
    """Yields the scores of each shard, from its file where it has one."""
    score, starts = None, range(0, len(places), SHARD)
    with extras.bar(len(places), desc="score") as bar:
        for start in starts:
            part, path = places[start : start + SHARD], folder / f"{start:012d}.npy"
            if not path.exists():
                if score is None:
                    most = min(SAMPLE, max(1, round(cfg.prior_share * len(places))))
                    chosen = np.sort(np.random.default_rng(0).choice(len(places), most, replace=False))
                    sample = bytes_at(found, places[chosen], cfg.length)
                    score = scorer(cfg, sample, target)
                files.write_array(path, score(bytes_at(found, part, cfg.length)))
            yield files.open_array(path, (len(part),), "<f8", "delete the folder and run again")
            bar.update(len(part))
