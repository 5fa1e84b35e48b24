"""Known logs of interactions: MovieLens-100K with what is known of films and users."""

from jaxembed.data.click_tables import Schema
from jaxembed.data.event_logs import catalogue, interactions
from jaxembed.data.sources.packages import package_file
from jaxembed.data.table_files import blocks

TAB = {"separator": "\t", "quote": None}
USERS = {"user": "user_id", "age": "age", "gender": "gender", "occupation": "occupation", "zip": "zip_code"}
FILMS = {"item": "item_id", "year": "release_year", "genres": "class", "title": "movie_title"}
EVENTS = {"user": "user_id", "item": "item_id", "rating": "rating", "time": "timestamp"}


def movielens_interactions(*, least_rating=None):
    """MovieLens-100K as a log: which of 943 users rated which of 1,682 films, and when.

    Films have a year and up to six genres, users age, gender, occupation and zip code. Reads the files inside
    the installed package recbole, without importing it.

    Args:
        least_rating: optional number; only ratings of at least so much count as taken. None takes all.

    Returns:
        {"interactions": ``data.records.Interactions``, "items" and "users": ``data.records.Catalogue``,
        "titles": list of str, the title of each row of items}.

    Raises:
        FileNotFoundError: when the package is not installed; ``make data`` installs it.

    References:
        F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 2015, whose terms allow research use.
    """
    folder = package_file("recbole", "dataset_example/ml-100k")
    films = _table(
        folder / "ml-100k.item", FILMS, {"year": "token", "genres": "token_seq", "title": "token_seq"}
    )
    users = _table(folder / "ml-100k.user", USERS, {})
    log = _table(folder / "ml-100k.inter", EVENTS, {"rating": "float", "time": "float"})
    rating = {"label": "rating", "threshold": float(least_rating) - 1e-6} if least_rating is not None else {}
    schema = Schema(**{"label": None, "categorical": ("user", "item"), "time": "time"} | rating)
    of_users = Schema(None, categorical=("user", "age", "gender", "occupation", "zip"))
    of_films = Schema(None, categorical=("item", "year"), multivalent=("genres",))
    return {
        "interactions": interactions(log, schema),
        "items": catalogue(films, of_films),
        "users": catalogue(users, of_users, key="user"),
        "titles": films["title"].to_pylist(),
    }


def _table(path, names, kinds):
    """{column: pyarrow.Array} of a file whose header holds "name:kind"."""
    stored = {f"{old}:{kinds.get(new, 'token')}": new for new, old in names.items()}
    (chunk,) = blocks(path, stored, numbers=[n for n in stored if n.endswith(":float")], **TAB)
    return {new: chunk[old] for old, new in stored.items()}
