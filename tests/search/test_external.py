"""What the indexes of faiss and usearch cannot hold is refused at the build, where they are installed."""

import functools
import importlib.util
import sys
import types

import numpy as np
import pytest

from jaxembed import search

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((600, 16)).astype(np.float32)
ASKED = RNG.standard_normal((5, 16)).astype(np.float32)
ONES = [1.0] * 16


def refused(match, call):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


def spoilt(value, dtype=np.float32):
    rows = ROWS.astype(dtype)
    rows[300] = value
    return rows


# Rows of which one is bad, and what is said of it in the forms that cannot hold it.
LOST = dict.fromkeys(("f32", "f16", "bf16"), "is not finite")
SPOILT = [
    (spoilt(np.nan), LOST),
    (spoilt(np.inf), LOST),
    (spoilt(1e300, np.float64), LOST),
    (spoilt(1e5), {"f16": "is not finite"}),
    (spoilt(3.4e38), LOST | {"f32": "overflows in products"}),
    (spoilt(1e25), {"f32": "overflows in products", "bf16": "overflows in products", "f16": "is not finite"}),
    (spoilt(1e-9), {"f16": "becomes zero"}),
    (spoilt(1e-99, np.float64), dict.fromkeys(("f32", "f16", "bf16"), "becomes zero")),
]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize("case", SPOILT, ids=lambda case: f"{case[0][300, 0]:g}")
def test_rows_that_a_form_cannot_hold_are_refused_at_the_build(tmp_path, case):
    rows, causes = case
    message = {form: f"^rows: number 300 {cause} as .*; mend it, scale all" for form, cause in causes.items()}
    if importlib.util.find_spec("usearch"):
        for form in ("f32", "f16", "bf16"):
            call = functools.partial(search.build_usearch, rows, tmp_path / "x", dtype=form, chunk=128)
            if form in causes:
                refused(message[form], call)
            else:
                search.open_usearch(call())(ASKED, 3)
    if importlib.util.find_spec("faiss"):
        for factory, form in {"Flat": "f32", "HNSW8": "f32", "IVF4,SQfp16": "f16", "SQbf16": "bf16"}.items():
            if form in causes:
                refused(message[form], functools.partial(search.build_faiss, rows, tmp_path / "x", factory))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
def test_queries_that_are_no_numbers_are_refused(tmp_path):
    for library, options in (("usearch", {"dtype": "f16"}), ("faiss", {})):
        if importlib.util.find_spec(library):
            path = getattr(search, f"build_{library}")(ROWS, tmp_path / library, **options)
            run = getattr(search, f"open_{library}")(path)
            for value in (np.nan, np.inf):
                refused("^queries: number 1 is not finite", functools.partial(run, [ONES, [value] * 16], 2))
            if library == "usearch":
                refused(
                    "^queries: number 0 is not finite as float16", functools.partial(run, [[1e5] * 16], 2)
                )


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:builtin type")
@pytest.mark.parametrize("factory", ["IDMap,Flat", "IDMap2,Flat", "Flat,IDMap", "IDMap,IVF4,Flat"])
def test_faiss_numbers_rows_itself(tmp_path, factory):
    pytest.importorskip("faiss")
    refused(
        f"^factory: '{factory}' takes no rows .* so leave IDMap out$",
        lambda: search.build_faiss(ROWS, tmp_path / "x", factory),
    )


@pytest.fixture
def refusing(monkeypatch):
    """A faiss that refuses every description in the words of its C++."""
    debris = (
        "Error in faiss::Index* faiss::index_factory_sub(int, std::string, faiss::MetricType) at "
        "/project/faiss/faiss/index_factory.cpp:998: Error: 'index' failed: "
    )

    def index_factory(width, factory, metric):
        raise RuntimeError(f"{debris}could not parse\nindex string {factory}")

    stub = types.SimpleNamespace(index_factory=index_factory, METRIC_INNER_PRODUCT=0)
    monkeypatch.setitem(sys.modules, "faiss", stub)


def test_a_refusal_of_faiss_is_said_without_its_source(refusing, tmp_path):
    said = r"^factory: faiss refuses 'odd' \(could not parse index string odd\); see its index factory$"
    refused(said, lambda: search.build_faiss(ROWS, tmp_path / "x", "odd"))
    for factory in (5, None, b"Flat"):
        refused(
            "^factory: .* is not a text; pass", lambda f=factory: search.build_faiss(ROWS, tmp_path / "x", f)
        )
