"""Records of clicks, as files and as slow loops read them."""

import jax
import numpy as np

from jaxembed.data.click_tables import Schema

CITIES = ["rome", "oslo", "bonn", "", "käln", "a,b"]
SCHEMA = Schema(
    label="clicked", categorical=("city", "shop"), dense=("price", "age"), multivalent=("tags",), time="when"
)


def make_records(count, seed=0):
    """Records whose values have long tails, so that every split holds values of its own."""
    rng = np.random.default_rng(seed)
    tag = lambda: [f"t{int(k)}" for k in rng.geometric(0.3, rng.integers(0, 4))]  # noqa: E731
    return [
        {
            "city": CITIES[rng.integers(len(CITIES))],
            "noise": "never read",
            "shop": f"s{int(rng.geometric(0.05))}",
            "clicked": int(rng.random() < 0.4),
            "price": round(float(rng.normal()), 3),
            "age": int(rng.integers(99)),
            "tags": " ".join(tag()),
            "when": int(rng.integers(10**9)),
        }
        for _ in range(count)
    ]


def text_of(records, names=None, separator=",", header=True):
    def cell(value):
        text = "" if value is None else str(value)
        return f'"{text}"' if separator in text else text

    names = list(records[0]) if names is None else names
    lines = [separator.join(names)] if header else []
    lines += [separator.join(cell(record[name]) for name in names) for record in records]
    return ("\n".join(lines) + "\n").encode()


def write(path, content):
    path.write_bytes(content)
    return path


def equal(a, b):
    """Two tables are the same, whatever the form of the files they were read from."""
    if "reading" in a:
        a, b = ({name: x for name, x in table.items() if name != "reading"} for table in (a, b))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# Bad input

GOOD = b"y,c,d\n1,a,2\n0,b,3\n1,c,4\n"
PLAIN = {"label": "y", "categorical": ("c",), "dense": ("d",)}
