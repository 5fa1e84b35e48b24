"""Packages that an extra of jaxembed brings: one line says which, where one is missing."""

import contextlib
import types


@contextlib.contextmanager
def brings(extra):
    """Names the extra that brings a package whose import inside the block fails.

    >>> with brings("data"):
    ...     import a_package_that_is_missing
    Traceback (most recent call last):
    ModuleNotFoundError: No module named 'a_package_that_is_missing'; pip install 'jaxembed[data]'

    Args:
        extra: name of an extra in pyproject.toml.

    Raises:
        ModuleNotFoundError: one line with the package and the command.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        remedy = f"No module named {error.name!r}; pip install 'jaxembed[{extra}]'"
        raise ModuleNotFoundError(remedy, name=error.name) from None


def bar(total, *, watched=True, **options):
    """Shows a progress bar when a person watches and tqdm is there; the work is the same without.

    >>> with bar(2, watched=False) as shown:
    ...     shown.update(2)

    Args:
        total: number of steps.
        watched: False hides it.
        **options: of ``tqdm``.

    Returns:
        A context manager with ``update(steps)`` and ``set_postfix(**numbers)``.
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        hidden = types.SimpleNamespace(update=lambda steps=1: None, set_postfix=lambda **numbers: None)
        return contextlib.nullcontext(hidden)
    return tqdm(total=total, disable=None if watched else True, **options)  # None: hidden in a pipe
