"""Python source code → records of documented functions."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import io
import json
import os
import pathlib
import platform
import re
import sys
import sysconfig
import tempfile
import tokenize
import warnings
import zlib

import numpy as np

from jaxembed import extras, ragged

_PACKAGES = ("stdlib", "numpy", "scipy", "jax", "flax", "optax", "orbax", "chex", "grain", "etils")
_ANY = ("utf-8", "surrogatepass")
_LARGEST = 2_000_000  # bytes of a file that is still read
_SKIPPED = re.compile(
    r"\.|(__pycache__|site-packages|dist-packages|node_modules|tests?|testing_?data|_?tests_?|idle_test"
    r"|_?vendor(ed)?|_?vendored_.*|third_party|externals?|extern|_bundled|lib2to3|idlelib|pydoc_data"
    r"|turtledemo|benchmarks?|array_api_(compat|extra)|build)$"
)
_TEST_FILE = re.compile(r"test_.*\.py|.*_tests?(_\w+)?\.py|conftest\.py|setup\.py")
_BREAK = re.compile(
    r"\s*([-=~*^]{3,}|>>>|\.\. |:\w+|@\w+|[-*] "
    r"|(Args|Arguments|Parameters|Returns?|Yields|Raises|Examples?|Usage|Notes?|Attributes)\s*:?\s*$)"
)
_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bcf)(?<!\bal)[.!?]['\")\]`]*(?=\s+[^\sa-z]|\s*$)")
_BOILERPLATE = re.compile(
    r"(see|inherited|overrid\w*|refer to|same as|todo|fixme|deprecated|not implemented"
    r"|docstring|initiali[sz]e self|constructor|auto-?generated)\b",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"[\w.]+\(.*")


def docstrings(packages=None, *, folders=(), cache=None, holdout=(), progress=False):
    """Code search pairs: reads first docstring sentences and the Python functions they describe.

    Functions and methods are found by parsing files; nothing that is scanned is imported. Kept are documented
    ones whose first sentence has 3 to 60 words and is neither a signature nor a reference to another
    docstring. Of those with equal sentence and equal code the first is kept. Different functions may share a
    sentence. Tests, vendored code, files above 2 MB and files that do not parse are passed over. All
    functions of a module are in one split, chosen by a hash of the module's name. Splits are 90 % train, 5 %
    validation, 5 % test. Records come in the order of packages, folders, modules and lines.

    >>> record = next(r for r in docstrings(["textwrap"], cache=False) if r["name"] == "shorten")
    >>> print(record["id"], "|", record["signature"], "|", record["query"])
    textwrap:shorten | text, width, **kwargs | Collapse and truncate the given text to fit in the given width.

    Args:
        packages: top-level names; ``"stdlib"`` is the standard library. None takes it and those of numpy,
            scipy, jax, flax, optax, orbax, chex, grain and etils that are installed.
        folders: folders of one's own code; the folder's name takes the place of the package.
        cache: folder in which the records of a package are stored under its version and a fingerprint of
            its files and of the scanner. None is ``jaxembed/docstrings`` in ``$XDG_CACHE_HOME`` or
            ``~/.cache`` and is done without when it cannot be written; False stores nothing.
        holdout: packages whose records are all in the test split.
        progress: True shows a bar.

    Returns:
        list of dicts of str (``line`` is an int): id (``module:name``), package, module, file, line, name
        (with classes), signature (the arguments), query (the first sentence), docstring (the rest of it),
        code (the body's lines without those of any docstring, nested ones included) and split.

    Raises:
        ValueError: when a package is missing or nothing is found.
        FileNotFoundError: when a folder is missing.
        OSError: when a cache that was named cannot be written.
    """
    packages, folders, holdout = (
        [x] if isinstance(x, str | os.PathLike) else x for x in (packages, folders, holdout)
    )
    if packages is None:
        packages = [name for name in _PACKAGES if _roots(name)]
    roots = {name: _roots(name) for name in packages}
    for name, found in roots.items():
        if not found:
            raise ValueError(f"packages: {name!r} has no Python source here; install it or drop the name")
    for folder in map(pathlib.Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"folders: {str(folder)!r} is not a folder; check the path")
        roots.setdefault(folder.resolve().name, []).append((folder.resolve(), folder.resolve().name))
    if unknown := set(holdout) - set(roots):
        raise ValueError(f"holdout: {sorted(unknown)} are not scanned; add them to packages or install them")
    store = _cache_folder(cache)
    records = []
    for package, found in _bar(roots.items(), progress):
        records += _package_records(package, found, store, strict=cache is not None)
    records = _without_repeats(records)
    if not records:
        raise ValueError("packages and folders hold no documented function; name others")
    for record in records:
        record["split"] = "test" if record["package"] in holdout else _split(record["module"])
    return records


def _bar(items, progress):
    with extras.bar(len(items), watched=progress, desc="docstrings", unit="package") as shown:
        for item in items:
            yield item
            shown.update(1)


def _roots(package):
    """Lists (folder or file, dotted prefix) of a top-level package; empty where the source is missing."""
    if package == "stdlib":
        return [(pathlib.Path(sysconfig.get_path("stdlib")), "")]
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [(pathlib.Path(p), package) for p in sorted(spec.submodule_search_locations)]
    return [(pathlib.Path(spec.origin), package)] if str(spec.origin).endswith(".py") else []


def _files(root, prefix):
    """Lists (file, module) below a root, sorted by module."""
    if root.is_file():
        return [(str(root), prefix)]
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [d for d in folders if not _SKIPPED.match(d)]
        if "pyvenv.cfg" in names:
            folders[:] = []
            continue
        parts = [p for p in (prefix, *os.path.relpath(folder, root).split(os.sep)) if p not in ("", ".")]
        for name in names:
            if name.endswith(".py") and not _TEST_FILE.fullmatch(name):
                stem = [] if name == "__init__.py" else [name[:-3]]
                found.append((os.path.join(folder, name), ".".join(parts + stem)))
    return sorted(found, key=lambda item: (item[1], item[0]))


def _split(module):
    place = int.from_bytes(hashlib.sha256(module.encode("utf-8", "replace")).digest()[:4], "big") % 100
    return "train" if place < 90 else "validation" if place < 95 else "test"


def _without_repeats(records):
    kept, seen, names = [], set(), {}
    for record in records:
        pair = record["query"], record["code"]
        if pair in seen:
            continue
        seen.add(pair)
        count = names[record["id"]] = names.get(record["id"], 0) + 1
        if count > 1:
            record["id"] += f"#{count}"
        kept.append(record)
    return kept


# The cache


def _cache_folder(cache):
    if cache is False:
        return None
    if cache is None:
        base = os.environ.get("XDG_CACHE_HOME", "")
        base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
        folder = pathlib.Path(base, "jaxembed", "docstrings")
    else:
        folder = pathlib.Path(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if cache is not None:
            tempfile.TemporaryFile(dir=folder).close()
        return folder
    except OSError as error:
        if cache is None:
            return None
        raise OSError(f"cache: {str(folder)!r} cannot be written ({error.strerror}); name another") from None


def _version(package):
    if package == "stdlib" or package in sys.stdlib_module_names:
        return platform.python_version()
    owners = [package, f"{package}-checkpoint", package.replace("_", "-")]
    for name in owners:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "0"


def _package_records(package, roots, store, *, strict):
    files, stamp = [], hashlib.sha256(pathlib.Path(__file__).read_bytes())  # another scanner, another name
    for root, prefix in roots:
        for path, module in _files(root, prefix):
            try:
                stat = os.stat(path)
            except OSError:
                continue
            files.append((path, module))
            stamp.update(f"{path}\0{stat.st_mtime_ns}\0{stat.st_size}\0".encode("utf-8", "surrogateescape"))
    if store is None:
        return _scan(package, files)
    python = ".".join(platform.python_version_tuple()[:2])
    name = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', package)}-{_version(package)}-python{python}"
    path = store / f"{name}-{stamp.hexdigest()[:16]}.jsonl"
    records = _read_cache(path)
    if records is None:
        records = _scan(package, files)
        try:
            _write_cache(path, records)
        except OSError as error:
            if strict:
                raise OSError(f"cache: {str(path)!r} cannot be written ({error.strerror})") from None
    return records


def _read_cache(path):
    """Reads what ``_write_cache`` wrote; None when the file is missing or damaged."""
    try:
        head, body = path.read_bytes().split(b"\n", 1)
        if json.loads(head) != {"crc32": zlib.crc32(body)}:
            return None
        return json.loads(b"[" + b",".join(body.splitlines()) + b"]")
    except (OSError, ValueError, RecursionError):
        return None


def _write_cache(path, records):
    body = "".join(json.dumps(record) + "\n" for record in records).encode()
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps({"crc32": zlib.crc32(body)}).encode() + b"\n" + body)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


# One file


def _scan(package, files):
    records = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, module in files:
            records += _file_records(package, module, path)
    return records


def _file_records(package, module, path):
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST or b"def " not in data:
            return []
        source = data.decode(tokenize.detect_encoding(io.BytesIO(data).readline)[0])
        source = source.replace("\r\n", "\n").replace("\r", "\n")
        body = ast.parse(source).body
    except (OSError, SyntaxError, ValueError, LookupError, RecursionError, MemoryError):
        return []
    lines, records = source.split("\n"), []
    for name, node in _functions(body, ""):
        doc = _docstring(node)
        sentence, rest = _first_sentence(doc.value.value) if doc else (None, None)
        if sentence is not None:
            records.append({
                "id": f"{module}:{name}", "package": package, "module": module, "file": path,
                "line": node.lineno, "name": name, "signature": ast.unparse(node.args),
                "query": sentence, "docstring": rest, "code": _code(lines, node, doc),
            })  # fmt: skip
    return records


def _nested(statement):
    for field in ("body", "handlers", "cases", "orelse", "finalbody"):
        yield from getattr(statement, field, ())


def _functions(statements, prefix):
    """Yields (qualified name, node) of functions and methods, not of functions inside functions."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + statement.name, statement
        elif isinstance(statement, ast.ClassDef):
            yield from _functions(statement.body, f"{prefix}{statement.name}.")
        else:
            yield from _functions(_nested(statement), prefix)


def _docstring(node):
    first = node.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return first if is_text and isinstance(first.value.value, str) else None


def _code(lines, node, doc):
    """Slices the body's lines and leaves out the lines of every docstring in it."""
    tail = lines[doc.end_lineno - 1].encode(*_ANY)[doc.end_col_offset :].decode(*_ANY).lstrip(" \t;")
    hidden, stack = set(), list(node.body)
    while stack:
        statement = stack.pop()
        stack.extend(_nested(statement))
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = _docstring(statement)
            if inner:
                hidden.update(range(inner.lineno, inner.end_lineno + 1))
    kept = [lines[i - 1] for i in range(doc.end_lineno + 1, node.end_lineno + 1) if i not in hidden]
    indent = doc.col_offset
    kept = [line if line[:indent].strip() else line[indent:] for line in kept]
    if tail and not tail.startswith(("#", "\\")):
        kept.insert(0, tail)
    return "\n".join(kept).strip("\n").rstrip()


def _first_sentence(docstring):
    """Cuts a docstring into its first sentence and the rest; (None, None) when it is of no use."""
    text = inspect.cleandoc(docstring)
    stop = 0
    for i, line in enumerate(text[:2000].split("\n")):
        if i and (not line.strip() or _BREAK.match(line)):
            break
        stop += len(line) + 1
    paragraph = text[:stop]
    end = _END.search(paragraph)
    stop = end.end() if end else min(stop, len(text))
    sentence = " ".join(text[:stop].split())
    count = len(re.findall(r"[^\W\d_]+", sentence))
    if not 3 <= count <= 60 or len(sentence) > 400:
        return None, None
    if _BOILERPLATE.match(sentence) or _SIGNATURE.match(sentence) or _BREAK.match(sentence):
        return None, None
    return sentence, text[stop:].strip()


def first_sentences(records, kinds, most, *, seed=0):
    """Known-item queries: the first sentences of some functions, each answered by the functions that bear it.

    >>> records = [{"query": "Pads.", "split": "test"}, {"query": "Sorts.", "split": "train"}]
    >>> sentences, judged = first_sentences(records * 2, {"test": lambda r: r["split"] == "test"}, 10)
    >>> print(sentences, judged["test"][1])
    ['Pads.'] [[0 2]]

    Args:
        records: N records of :func:`docstrings`.
        kinds: {name: record -> bool}, which records give the queries of a kind.
        most: number of queries of each kind, at most.
        seed: int of the choice.

    Returns:
        (sentences, {kind: (slice of the sentences, relevant records int [b, J] padded with -1)}); a kind
        without records is left out.
    """
    groups, rng = {}, np.random.default_rng(seed)
    for i, r in enumerate(records):
        groups.setdefault(r["query"], []).append(i)
    chosen, judgments = [], {}
    for name, belongs in kinds.items():
        some = sorted({r["query"] for r in records if belongs(r)})
        some = [some[i] for i in rng.permutation(len(some))[:most]]
        if some:
            where = slice(len(chosen), len(chosen) + len(some))
            judgments[name] = (where, ragged.pad([groups[q] for q in some], value=-1)[0])
            chosen += some
    return chosen, judgments
