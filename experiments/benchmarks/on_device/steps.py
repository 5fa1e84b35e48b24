"""Cases of embedding tables: one step of a table of several heights, and a DCN-V2 around one."""

import dataclasses
import functools

import numpy as np
import optax

from experiments.benchmarks import table_arms, tables
from experiments.benchmarks.on_device.cases import COMPILED, EAGER, OURS, Case, late
from experiments.benchmarks.on_device.held import ADAGRAD, SPARSE
from jaxembed.tables import rowwise_adagrad


def settings(cfg, height, batch_size):
    """Settings of the benchmark of tables for one table, its batch, cotangent and count of distinct rows."""
    given = {"heights": (height,), "batch_size": batch_size, "values": min(cfg.values, height)}
    given |= {"fields": cfg.fields, "width": cfg.row_width, "model_rows": height, "hidden": cfg.hidden}
    made = tables.Config(**given)
    rows, cotangent = table_arms.draw(made, height)
    count = len(np.unique(rows))
    return dataclasses.replace(made, size=256 * (count // 256 + 1)), rows, cotangent, count


def table_steps(cfg, card, peer):
    """Steps of row-wise Adagrad and Adagrad at every height, the list of rows given, and made beside."""
    for wanted in cfg.heights:
        copies = 5 if peer is None else 7  # a table and its state, of each arm
        size = 4 * cfg.row_width
        height, note = card.fitting(wanted, lambda n, size=size, copies=copies: copies * n * size, "rows")
        drawn = functools.cache(lambda height=height: settings(cfg, height, cfg.lookups))

        def arms(height=height, drawn=drawn):
            made, rows, cotangent, _ = drawn()
            rules = {ADAGRAD: optax.adagrad(0.01), f"{OURS}, row-wise Adagrad": rowwise_adagrad(0.01)}
            built = {name: table_arms.by_rows(rule) for name, rule in rules.items()}
            if height <= 10**6:  # what the host does does not depend on the height
                built[f"{ADAGRAD}, list made beside"] = table_arms.by_rows(rules[ADAGRAD], "beside")
            given = made, height, rows, cotangent
            calls = {name: late(lambda arm=arm: arm(*given)[0]) for name, arm in built.items()}

            def sparse():
                with peer.device:
                    return table_arms.torch_arm("Adagrad")(*given)[0]

            return calls | ({SPARSE: late(sparse)} if peer else {})

        *_, rows, _, distinct = drawn()
        width, read = cfg.row_width, rows.size * (cfg.row_width + 1)  # cotangents and rows
        moved = 4 * (read + 4 * distinct * width)  # table and state, both ways
        others = {f"{OURS}, row-wise Adagrad": 4 * (read + 2 * distinct * (width + 1))}
        where = "table step", f"{height:,} rows", "rows", rows.size, "float32"
        flops = rows.size * width + 6 * distinct * width
        yield Case("embedding tables", *where, flops, moved, arms, None, note, others=others)


def click_models(cfg, card, peer):
    """Steps of a DCN-V2 around a table."""
    copies = 2 if peer is None else 6  # a table and its state, of each arm
    height, note = card.fitting(cfg.model_rows, lambda n: 4 * copies * n * cfg.row_width, "rows")
    made, rows, _, distinct = settings(cfg, height, cfg.samples)

    def arms():
        labels = np.random.default_rng(1).integers(0, 2, len(rows)).astype(np.float32)
        names = {"DCN-V2 jaxembed": OURS, "DCN-V2 jaxembed, dense part": f"{OURS}, dense part"}
        calls = {names[n]: call for n, call in tables.our_model(made, rows, labels).items()}

        def theirs(arm):
            with peer.device:
                return tables.torch_model(made, rows, labels, arm == COMPILED)["DCN-V2 torch"]

        return calls | {a: late(functools.partial(theirs, a)) for a in (EAGER, COMPILED) if peer}

    width = cfg.fields * cfg.row_width
    sizes = [width] * 4 + [*cfg.hidden, 1]
    weights = sum(n * m for n, m in zip(sizes, sizes[1:], strict=False))
    flops = 6 * cfg.samples * weights
    moved = 4 * (6 * weights + 4 * distinct * cfg.row_width + rows.size + cfg.samples)  # all both ways
    where = "DCN-V2 step", f"{cfg.samples:,} samples, {height:,} rows", "samples", cfg.samples, "tf32"
    yield Case("DCN-V2", *where, flops, moved, arms, None, note)
