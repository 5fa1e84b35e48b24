"""Numbers of a run: one JSON object per line."""

import json
import math

from jaxembed import files
from jaxembed.train.workdir import folder_of, is_local

NAME = "metrics.jsonl"


def read_metrics(workdir):
    """Metrics of a run: reads the rows that it has logged.

    Args:
        workdir: folder of the run.

    Returns:
        List of dicts with "step", "kind" ("train" or "evaluate") and the numbers; [] when there are none.
        A line that is damaged, such as the last one of a run that was killed, is left out; later ones are
        read.
    """
    return _read(folder_of(workdir) / NAME)[0]


def _read(path):
    """The rows of a file, and its damaged lines as bytes."""
    rows, damaged = [], []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and type(row.get("step")) is int and isinstance(row.get("kind"), str):
            rows.append(row)
        elif line.strip():
            damaged.append(line)
    return rows, damaged


class MetricLog:
    """Appends rows to ``workdir/metrics.jsonl`` and, when asked, to TensorBoard event files.

    Args:
        workdir: folder of the run, or None to keep the rows in memory alone. Damaged lines of a run that goes
            on are moved into ``metrics.damaged`` beside the file.
        step: rows after this step belong to a future that was lost, and are dropped.
        write: False on all processes but the first.
        tensorboard: write event files to ``workdir/tensorboard`` too (extra ``tensorboard``).
    """

    def __init__(self, workdir, step, *, write=True, tensorboard=False):
        rows, damaged = _read(folder_of(workdir) / NAME) if workdir else ([], [])
        self.rows = [r for r in rows if r["step"] <= step]
        self._file = self._events = self._bucket = None
        if workdir and write:
            path = folder_of(workdir) / NAME
            if tensorboard:
                self._events = _event_writer(path.parent / "tensorboard")
            if damaged:
                kept = path.with_suffix(".damaged")
                held = kept.read_bytes() if kept.exists() else b""
                _replace(kept, held + b"\n".join([*damaged, b""]))
            text = "".join(json.dumps(r) + "\n" for r in self.rows)
            if not is_local(path):
                self._bucket, self._text = path, text
                return
            _replace(path, text.encode())
            self._path, self._file = path, path.open("ab", buffering=0)

    def add(self, step, kind, numbers):
        """Appends one row and returns its numbers as floats."""
        numbers = {name: float(value) for name, value in numbers.items()}
        row = {"step": step, "kind": kind, **numbers}
        self.rows.append(row)
        finite = {k: v if not isinstance(v, float) or math.isfinite(v) else repr(v) for k, v in row.items()}
        line = json.dumps(finite) + "\n"
        if self._file:
            _append(self._file, self._path, line.encode())
        if self._bucket:  # objects of a bucket are written whole
            self._text += line
            self._bucket.write_text(self._text)
        if self._events:
            for name, value in numbers.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)
        return numbers

    def close(self):
        """Closes the files."""
        for stream in (self._file, self._events):
            if stream:
                stream.close()


def _replace(path, content):
    """Replaces a file, in one step on the local disk; one without room leaves what was there."""
    if not is_local(path):
        path.write_bytes(content)
        return
    new = files.beside(path, ".new")
    with files.written(new) as file:
        file.write(content)
    files.replace(new, path)


def _append(file, path, line):
    """Appends to a file without a buffer, so that nothing is left to write after an error."""
    left = memoryview(line)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise files.unwritten(path, error) from None


def _event_writer(folder):
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError("tensorboard=True needs the extra: pip install 'jaxembed[tensorboard]'") from None
    return SummaryWriter(str(folder))


def patience_left(rows, best, patience):
    """Counts how many further evaluations without improvement a run may have.

    >>> rows = [{"step": s, "kind": "evaluate", "mrr": v} for s, v in [(1, 0.5), (2, 0.4), (3, 0.45)]]
    >>> patience_left(rows, "mrr", 3)
    1

    Args:
        rows: rows of a :class:`MetricLog`. Those without the number, of a run that watched another one
            before, do not count.
        best: name of the number; a leading "-" means that lower is better.
        patience: evaluations without improvement that end the run.

    Returns:
        An int; 0 or less means stop.
    """
    name = best.removeprefix("-")
    values = [score(r, best) for r in rows if r["kind"] == "evaluate" and name in r]
    if not values:
        return patience
    return patience - (len(values) - 1 - max(range(len(values)), key=lambda i: (values[i], -i)))


def score(numbers, best):
    """Reads the number by which checkpoints are ranked: higher is better, NaN is worst."""
    name = best.removeprefix("-")
    if name not in numbers:
        raise ValueError(f"best={best!r}: evaluate returns only {sorted(set(numbers) - {'step', 'kind'})}")
    value = float(numbers[name])
    return -math.inf if math.isnan(value) else -value if best.startswith("-") else value
