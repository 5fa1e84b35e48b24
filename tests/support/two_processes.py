"""One of two processes that train together; test_updates_sharded starts both and reads what they write."""

import json
import sys

import jax
import numpy as np

SHAPES = [(8, 1), (2, 4), (1, 8)]  # the middle axis splits batches by process, the last one does not


def main(process, port, folder):
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)
    import trained_tables as tests

    from jaxembed import tables, train

    class Own:
        def __getitem__(self, t):
            share = jax.tree.map(lambda x: x[8 * process : 8 * process + 8], tests.example(t))
            rows, codes = tables.distinct(share["codes"], share["masks"], tests.V, tests.SIZE)
            return share | {"codes": codes, "rows": {tests.PATH: rows}}

    found = {"devices": [jax.local_device_count(), jax.device_count()]}
    for shape in SHAPES:
        mesh = train.make_mesh(*shape)
        placed = train.place_batch({"x": np.full((4, 2), process)}, mesh, [("", jax.P(None, None))])["x"]
        found[f"joined {shape}"] = np.asarray(placed.addressable_data(0))[:, 0].tolist()
        state = tests.fit(tests.by_rows("adagrad"), Own(), shape)
        whole = jax.jit(lambda x: x, out_shardings=jax.sharding.NamedSharding(mesh, jax.P()))
        found[str(shape)] = np.asarray(whole(state.params["table"]["embedding"]).addressable_data(0)).tolist()
    with open(f"{folder}/{process}.json", "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
