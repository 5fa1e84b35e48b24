"""Folders of checkpoints by their name on the Hugging Face hub."""

import pathlib
import re

SMALL = (".json", ".txt", ".model", ".md", ".jinja")  # what a folder holds apart from its tensors
PATTERNS = ["*.safetensors", *(f"*{suffix}" for suffix in SMALL)]
NAME = r"\w[\w.-]*(/\w[\w.-]*)?"


def find_folder(path, **options):
    """Returns a folder as pathlib path; a name on the hub is fetched.

    Args:
        path: str or path.
        options: revision, token, cache and offline, as for :func:`~jaxembed.encoders.pretrained.load`.

    Raises:
        FileNotFoundError: when the folder is missing, and the hub does not give it.
        ValueError: for a file, a revision of a local folder, or a repository without safetensors.
    """
    folder = pathlib.Path(path)
    if folder.is_dir():
        if options.get("revision") is not None:
            raise ValueError(f"revision: {path} is a local folder, which has one; leave it out")
        return folder
    if folder.exists():
        raise ValueError(f"{path}: is a file; give the folder that holds it")
    if not re.fullmatch(NAME, str(path)):
        raise FileNotFoundError(f"{path}: no such folder")
    return _download(str(path), **options)


def _download(name, revision=None, token=None, cache=None, offline=False):
    try:
        import huggingface_hub
    except ImportError:
        raise FileNotFoundError(
            f"{name}: no such folder; to fetch it from the hub, pip install 'jaxembed[hub]'"
        ) from None
    options = {"revision": revision, "token": token, "cache_dir": cache, "local_files_only": offline or None}
    options = {key: value for key, value in options.items() if value is not None}
    reasons = []
    for repository in [name] if "/" in name else [f"sentence-transformers/{name}", name]:
        try:
            folder = huggingface_hub.snapshot_download(repository, allow_patterns=PATTERNS, **options)
        except Exception as error:  # of the hub, of the network library beneath it, or of the disk
            reasons.append(error)
            continue
        if not any(pathlib.Path(folder).rglob("*.safetensors")):
            raise ValueError(
                f"{repository}: has no safetensors file on the hub; pickles can run code and are not read, "
                "so save it with safetensors"
            )
        return pathlib.Path(folder)
    remedy = "fetch it once without offline=True" if offline else "check the name and the network"
    raise FileNotFoundError(
        f"{name}: no such folder, and the hub did not give it ({_sentences(reasons[0])}); {remedy}, or "
        "pass a folder"
    ) from reasons[0]


def _sentences(error, most=240):
    """The first whole sentences of an error, in one line; at least one, without the number of a request."""
    text = re.sub(r"\(Request ID: [^)]*\) ?", "", " ".join(str(error).split())) or type(error).__name__
    first, *more = re.split(r"(?<=[.!?]) (?=[A-Z`'\"(])", text)
    for sentence in more:
        if len(first) + len(sentence) > most:
            break
        first = f"{first} {sentence}"
    return first
