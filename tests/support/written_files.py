"""Files for readers."""

from jaxembed.data import batches


def one(records, size, **options):
    return batches(records, size, process=0, processes=1, **options)


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
