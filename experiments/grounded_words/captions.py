"""Words that are said together: captions of COCO, or the definitions and examples of WordNet."""

import collections
import json

import jax
import numpy as np

from jaxembed import data, metrics, recipes, vectors

# The classes of COCO whose name is one word, by its super-categories.
CLASSES = {
    "vehicle": "bicycle car motorcycle airplane bus train truck boat",
    "outdoor": "hydrant bench",
    "animal": "bird cat dog horse sheep cow elephant bear zebra giraffe",
    "accessory": "backpack umbrella handbag tie suitcase",
    "sports": "frisbee skis snowboard kite skateboard surfboard bat glove racket",
    "kitchen": "bottle glass cup fork knife spoon bowl",
    "food": "banana apple sandwich orange broccoli carrot pizza donut cake",
    "furniture": "chair couch bed table toilet",
    "electronic": "television laptop mouse remote keyboard phone",
    "appliance": "microwave oven toaster sink refrigerator",
    "indoor": "book clock vase scissors bear drier toothbrush",
}


def texts(path):
    """One list of words for each picture, or for each sense of WordNet."""
    if path is None:
        senses = data.wordnet()
        return [data.words(" ".join([*s["lemmas"], s["gloss"], *s["examples"]])) for s in senses]
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        found = collections.defaultdict(list)
        for line in lines:
            found[line["image_id"]] += data.words(line["caption"])
    except (UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"--path {path}: is not COCO's captions_*.json ({error}); name that file") from None
    return list(found.values())


def numbered(said, size):
    """Sets of numbers of the commonest words but the 50 first, and those words."""
    counts = collections.Counter(word for text in said for word in set(text))
    words = [word for word, count in counts.most_common(size + 50)[50:] if count >= 5 and len(word) > 2]
    known = {word for names in CLASSES.values() for word in names.split()}
    words += sorted(word for word in known - set(words) if counts[word] >= 5)
    rows = {word: i for i, word in enumerate(words)}
    return [[rows[w] for w in text if w in rows] for text in said], words


def spaces(sets, size, width, seed):
    """Vectors of the words by PPMI, by raw counts, and by skip-gram over the same texts."""
    counts, key = data.colocation(sets, size), jax.random.key(seed)
    given = {"PPMI": vectors.ppmi(counts), "raw counts": counts}
    made = {name: np.asarray(vectors.spectral_embedding(m, width, key=key)[0]) for name, m in given.items()}
    lists = [list(map(str, row)) for row in sets]
    found = recipes.train_words(lists, width=width, min_count=1, seed=seed, progress=False)
    made["skip-gram"] = np.zeros((size, width), np.float32)
    made["skip-gram"][list(map(int, found.words))] = found.vectors
    return made


def quality(table, words, seed):
    """Correlation with judged pairs, and the purity of the classes' groups."""
    from sklearn.cluster import KMeans

    pairs, row = data.word_pairs("wordsim353"), {}
    asked = list(zip(pairs["first"], pairs["second"], strict=True))
    row["wordsim353"] = metrics.word_similarity(table, words, asked, pairs["scores"], fold=True)["spearman"]
    rows = {word: i for i, word in enumerate(words)}
    named = [(rows[w], group) for group, names in CLASSES.items() for w in names.split() if w in rows]
    x = table[[row for row, _ in named]]
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    told = KMeans(len(CLASSES), n_init=10, random_state=seed).fit_predict(x)
    return row | {"purity": metrics.purity([group for _, group in named], told)}
