"""One of several processes that search, build and evaluate together; test_search_processes starts them.

What one process finds alone, with the same 8 devices, is found by ``main(0, 1, None, folder)``.
"""

import json
import pathlib
import sys

import jax
import numpy as np

WIDTH = 8


def vectors(seed, count):
    """Rows of small whole numbers, whose products every order of summing gives exactly."""
    return np.random.default_rng(seed).integers(-3, 4, (count, WIDTH)).astype(np.float32)


def searched(mesh):
    """Top k of rows that every process holds, of rows that are divided among them, and of codes."""
    from jaxembed import search

    documents, queries = vectors(0, 128), vectors(1, 5)
    split = jax.sharding.NamedSharding(mesh, jax.P("data"))
    divided = jax.make_array_from_callback(documents.shape, split, lambda where: documents[where])
    codes = np.packbits(np.tile(documents, 2) > 0, axis=1)
    found = {
        "held": search.top_k(queries, documents[:125], 7, mesh=mesh),
        "chunks": search.top_k(queries, documents[:125], 7, mesh=mesh, chunk=10),
        "divided": search.top_k(queries, divided, 7, mesh=mesh),
        "codes": search.hamming_top_k(codes[:3], codes, 7, mesh=mesh),
    }
    return jax.tree.map(lambda x: np.asarray(x).tolist(), found)


def evaluated(mesh):
    from jaxembed import metrics

    names = {f"d{n}": f"{n}" for n in range(60)}
    queries = {f"q{n}": f"{n + 100}" for n in range(9)}
    judged = {f"q{n}": {f"d{(5 * n + i) % 60}": 1 + i % 2 for i in range(20)} for n in range(9)}
    source = {"documents": names, "queries": queries, "judgments": {"test": judged}}
    return metrics.evaluate_retrieval(lambda texts: [vectors(int(t), 1)[0] for t in texts], source, mesh=mesh)


def built(process, count, folder):
    """Each process in its turn adds its share of the documents; all open the same index."""
    from jax.experimental import multihost_utils

    from jaxembed import search

    documents = [(f"d{n}", vectors(n, 1 + n % 4)) for n in range(24)]
    for turn in range(count):
        if turn == process:
            share = documents[24 * turn // count : 24 * (turn + 1) // count]
            write = search.add_documents if turn else search.build_documents
            write(folder / "index", share, lambda params, tokens, mask: tokens.sum(axis=1), shard_size=10)
        if count > 1:
            multihost_utils.sync_global_devices(f"turn {turn}")
    index = search.open_documents(folder / "index", verify=True)
    rows = [
        np.asarray(index.tokens[a:b]).tolist() for a, b in zip(index.offsets, index.offsets[1:], strict=False)
    ]
    return {"ids": list(index.ids), "tokens": rows, "sums": np.asarray(index.columns["vectors"][:]).tolist()}


def main(process, count, port, folder):
    if count > 1:
        jax.config.update("jax_num_cpu_devices", 8 // count)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", num_processes=count, process_id=process)
    from jaxembed import train

    mesh, folder = train.make_mesh(), pathlib.Path(folder)
    found = {"devices": jax.device_count(), "index": built(process, count, folder)}
    found |= {"search": searched(mesh), "scores": evaluated(mesh)}
    (folder / f"{process}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
