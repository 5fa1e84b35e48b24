"""Data sets of the TFDS catalogue, read record by record without TensorFlow."""

import importlib
from collections.abc import Sequence

import numpy as np

from jaxembed import files
from jaxembed.data.images import fit_image
from jaxembed.data.records import Images
from jaxembed.extras import brings

_AGAIN = "prepare the data set again"


class _Decoded(Sequence):
    """A random-access source whose records hold str where the stored ones hold bytes."""

    def __init__(self, source, place):
        self._source, self._place = source, place

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} records")
        with files.reading(self._place, _AGAIN):
            return _decode(self._source[index % len(self)])


def _decode(leaf):
    if isinstance(leaf, dict):
        return {key: _decode(value) for key, value in leaf.items()}
    if isinstance(leaf, bytes):
        return leaf.decode("utf-8", "replace")
    if isinstance(leaf, list | tuple):
        return type(leaf)(map(_decode, leaf))
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OS":
        decoded = np.empty(leaf.shape, object)
        decoded.flat = [_decode(item) for item in leaf.flat]
        return decoded if leaf.ndim else decoded.item()
    return leaf


_UNPREPARED = (NotImplementedError, AssertionError, FileNotFoundError)
# Builders of these categories register when the category is imported.
_CATEGORIES = ("", ".text", ".structured", ".question_answering", ".translate", ".summarization", ".image")


def tfds(name, split, *, data_dir=None, download=False):
    """TensorFlow Datasets: opens a prepared set for random access, without TensorFlow.

    >>> import tensorflow_datasets
    >>> with tensorflow_datasets.testing.mock_data(num_examples=3):
    ...     source = tfds("ag_news_subset", "train")
    ...     print(len(source), sorted(source[0]))
    3 ['description', 'label', 'title']

    Args:
        name: ``"glue/sst2"``, ``"movielens/100k-ratings"`` and so on, as TFDS writes it.
        split: ``"train"``, ``"train[:90%]"`` and so on.
        data_dir: the folder of prepared data sets; TFDS's own when None.
        download: True fetches and prepares what is missing, in a format that allows random access.

    Returns:
        A sequence of N dicts. Text comes as str (bytes that are not UTF-8 become U+FFFD), numbers and
        images as NumPy arrays.

    Raises:
        ValueError: when no data set has this name or it is not prepared for random access.
    """
    builder = _builder(name, data_dir, "array_record" if download else None)
    if download:
        builder.download_and_prepare()
    place = str(builder.data_dir)
    try:
        remedy = f"pass one of its splits, or {_AGAIN}"
        with files.reading(place, remedy, fault="{}", passing=_UNPREPARED):
            return _Decoded(builder.as_data_source(split=split), place)
    except _UNPREPARED:
        raise ValueError(
            f"name={name!r} is not prepared for random access at {place}; pass download=True, or data_dir= "
            "of a copy that was prepared with file_format='array_record'"
        ) from None


def tfds_images(
    name, split, size=None, *, image="image", label="label", data_dir=None, download=False, **options
) -> Images:
    """TensorFlow Datasets: reads the pictures and labels of a prepared set into memory.

    >>> import tensorflow_datasets
    >>> with tensorflow_datasets.testing.mock_data(num_examples=3):
    ...     images = tfds_images("cifar10", "test", 16)
    >>> print(images["images"].shape, len(images["names"]))
    (3, 16, 16, 3) 10

    Args:
        name, split, data_dir, download: as :func:`tfds` has them.
        size: side of the pictures, or (height, width); None where all have one size.
        image: name of the pictures in a record.
        label: name of the labels, numbers of classes or texts (a person of lfw).
        **options: ``channels``, ``fit`` and ``background`` of ``data.fit_image``.

    Returns:
        :class:`~jaxembed.data.records.Images`, uint8 [N, H, W, C].

    Raises:
        ValueError: as :func:`tfds`, for a name that records lack, or pictures of several sizes without
            ``size``.
    """
    source = tfds(name, split, data_dir=data_dir, download=download)
    records = [source[row] for row in range(len(source))]
    for key in (image, label):
        if records and key not in records[0]:
            raise ValueError(f"{key!r} is not in the records of {name}, which have {', '.join(records[0])}")
    images = [fit_image(record[image], size, **options) for record in records]
    sizes = {picture.shape for picture in images}
    if len(sizes) != 1:
        raise ValueError(f"size: pictures of {len(sizes)} sizes in {name} {split}; pass one size")
    labels = [record[label] for record in records]
    if isinstance(labels[0], str):
        names = sorted(set(labels))
        labels = np.searchsorted(names, labels)
    else:
        feature = _builder(name, data_dir, None).info.features[label]
        names = list(getattr(feature, "names", None) or map(str, range(int(max(labels)) + 1)))
    return {"images": np.stack(images), "labels": np.array(labels, np.int32), "names": names}


def _builder(name, data_dir, file_format):
    with brings("data"):
        import tensorflow_datasets as datasets
    options = {} if file_format is None else {"file_format": file_format}
    for category in _CATEGORIES:
        importlib.import_module(f"tensorflow_datasets{category}")
        try:
            with files.reading(
                data_dir or name, _AGAIN, passing=(datasets.core.DatasetNotFoundError, ValueError)
            ):
                return datasets.builder(name, data_dir=data_dir, **options)
        except datasets.core.DatasetNotFoundError:
            continue
    raise ValueError(f"name={name!r} is not a data set of TFDS; datasets.list_builders() lists the names")
