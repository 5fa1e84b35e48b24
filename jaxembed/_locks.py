"""A folder has one writer: locks that end with their process; ``files.held`` is their public name."""

import contextlib
import errno
import json
import os
import pathlib
import socket

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOCKS = set()  # descriptors of the locks that this process holds
# What a file system says that has no locks.
_LOCKLESS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_LOCKLESS |= {errno.EBADF}  # of NFS, for a file that is open to read alone


@contextlib.contextmanager
def held(path, what, *, beside=False):
    """Writer's lock: a folder or a file has one writer while the block runs; the next is refused.

    The lock is ``flock`` on ``.lock`` in the folder, or on ``.NAME.lock`` beside a file or a folder that is
    not there yet. It ends with the process that holds it, however that dies, so a file that a dead owner left
    blocks nobody. Readers take no lock. The lock file stays and is empty while nobody holds it.

    On one machine the lock excludes every other process and thread. Between machines it holds where the
    file system shares ``flock``: NFS from version 4, CephFS, GPFS, and Lustre mounted with ``flock``. A
    machine that vanishes keeps its lock there until the server forgets it, on NFS 4 about 90 seconds.
    NFS mounted with ``local_lock=flock`` or ``nolock``, and Lustre with ``localflock``, exclude processes of
    one machine only. Where the system has no locks (Windows, mounted buckets) or the folder may not be
    written, the block runs without one.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with held(folder, "an addition"):
    ...     try:
    ...         with held(folder, "a deletion"):
    ...             pass
    ...     except BlockingIOError as error:
    ...         print(str(error).split(": ", 1)[1].split(" by ")[0])
    is being written

    Args:
        path: str or path of a folder that exists, or of something in one.
        what: str, what the holder does, as the error of the others says it.
        beside: True puts the lock beside a folder too, for a writer that renames a whole folder to its place.

    Raises:
        BlockingIOError: when another holds it; names its process and machine.
    """
    path = pathlib.Path(path)
    inside = path.is_dir() and not beside
    lock = path / ".lock" if inside else path.with_name(f".{path.name}.lock")
    descriptor = _take(path, lock)
    try:
        _sign(descriptor, {"process": os.getpid(), "machine": socket.gethostname(), "what": what})
        yield
    finally:
        if descriptor in _LOCKS:
            _sign(descriptor, None)
            _LOCKS.discard(descriptor)
            os.close(descriptor)


def _take(path, lock):
    """Returns the descriptor of a lock that is now ours, or None where there are no locks."""
    descriptor = None if fcntl is None else _open(lock)
    if descriptor is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = _owner(descriptor)
        os.close(descriptor)
        if error.errno in _LOCKLESS:
            return None
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise BlockingIOError(
            f"{path}: is being written by {owner}; wait until that ends, or choose another place"
        ) from None
    _LOCKS.add(descriptor)
    return descriptor


def _open(lock):
    """Opens a lock file, to read alone where another user made it; None in a folder that is read-only."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            return os.open(lock, flags | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
                raise
            if error.errno == errno.ENOENT and flags & os.O_CREAT:  # no folder
                raise
    return None


def _sign(descriptor, owner):
    """Writes who holds a lock into its file, where the disk lets it."""
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            if owner is not None:
                os.pwrite(descriptor, json.dumps(owner).encode(), 0)
                os.fsync(descriptor)  # so that other machines see it


def _owner(descriptor):
    """Says who holds a lock, as far as its file tells."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"{owner['what']} of process {int(owner['process'])} on {owner['machine']}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "another process"


def _forget_locks():
    """Lets a forked child go of its parent's locks, which it would keep after the parent's death."""
    for descriptor in _LOCKS:
        os.close(descriptor)
    _LOCKS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
