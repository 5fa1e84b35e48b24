"""Slow loops of tables, written from the formulas: hashes, codes, lookups, distinct rows."""

import hashlib

import numpy as np


def fmix32(h):
    """Finalizer of MurmurHash3 on a Python int below 2**32."""
    h ^= h >> 16
    h = h * 0x85EBCA6B % 2**32
    h ^= h >> 13
    h = h * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


def salt(seed, name, chunk):
    """Salt of one chunk of one feature: the first four bytes of a BLAKE2b digest of "seed/name/chunk"."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}/{chunk}".encode(), digest_size=4).digest(), "big")


def hash_codes(plan, batch):
    """{feature: [..., chunks]} of a multiplexed plan, one Python int after another."""
    result, turn = {}, 0
    for feature in plan.features:
        ids = np.asarray(batch[feature.name])
        out = np.zeros((*ids.shape, feature.chunks), np.int32)
        for c in range(feature.chunks):
            for place in np.ndindex(ids.shape):
                value = int(ids[place])
                if feature.vocabulary is None:
                    row = fmix32(value ^ salt(plan.seed, feature.name, c)) % plan.rows
                    out[(*place, c)] = (turn % plan.tables) * plan.rows + row
                else:
                    out[(*place, c)] = value * feature.chunks + c
            turn += feature.vocabulary is None
        result[feature.name] = out
    return result


def lookup(plan, params, codes, masks=None, weights=None):
    """Chunks concatenated, then pooled over the values of a bag."""
    result = {}
    for feature in plan.features:
        where = params["table"] if feature.vocabulary is None else params["exact"][feature.name]
        table, rows = np.asarray(where["embedding"]), codes[feature.name]
        if rows.ndim == 2:
            result[feature.name] = np.array([np.concatenate([table[c] for c in row]) for row in rows])
            continue
        out = []
        for b, bag in enumerate(rows):
            kept = [
                i
                for i in range(len(bag))
                if (masks or {}).get(feature.name) is None or masks[feature.name][b, i]
            ]
            vectors = [np.concatenate([table[c] for c in bag[i]]) for i in kept]
            share = [
                1.0 if (weights or {}).get(feature.name) is None else weights[feature.name][b, i]
                for i in kept
            ]
            out.append(combine(vectors, share, feature.combine, feature.chunks * plan.width))
        result[feature.name] = np.array(out)
    return result


def combine(vectors, weights, kind, width):
    """One bag, [width]; nothing, or no weight to divide by, gives zeros."""
    if not vectors:
        return np.zeros(width)
    if kind == "max":
        return np.max(vectors, axis=0)
    total = sum(w * v for w, v in zip(weights, vectors, strict=True))
    if kind == "sum":
        return total
    return total / sum(weights) if sum(weights) else np.zeros(width)


def shares(features, rows, multiplexed):
    """{feature: (first, number)} of rows; without multiplexing in proportion to the sizes, at least one."""
    if multiplexed:
        return {f.name: (0, rows) for f in features}
    out, first, total = {}, 0, sum(f.size for f in features)
    for i, f in enumerate(features):
        number = round(rows * f.size / total)
        while rows - first - number < len(features) - i - 1:
            number -= 1
        out[f.name] = (first, max(1, number))
        first += max(1, number)
    return out


def scheme_codes(plan, batch):
    """{feature: int32 [..., reads]} of any scheme, one Python int after another."""
    shared = [f for f in plan.features if f.vocabulary is None]
    where = shares(shared, plan.rows, plan.multiplexed)
    turn, used, values, out = 0, [0] * plan.tables, 0, {}
    for f in plan.features:
        ids = np.asarray(batch[f.name])
        if f.vocabulary is not None:
            reads = f.chunks * plan.span if plan.merge == "concat" else 1
            out[f.name] = np.array([[int(i) * reads + c for c in range(reads)] for i in ids.ravel()])
            out[f.name] = out[f.name].reshape(*ids.shape, reads).astype(np.int32)
            continue
        columns = []
        for c in range(f.chunks):
            table, (first, number) = (turn + c) % plan.tables, where[f.name]
            if plan.scheme == "exact":
                columns.append([table * plan.rows + used[table] + int(i) for i in ids.ravel()])
                used[table] += f.size
            elif plan.scheme == "mixed_radix":
                total = sum(g.size for g in shared) if plan.multiplexed else f.size
                r = next(
                    r
                    for r in range(1, number)
                    if (number - (f.chunks - 1) * r) * r ** (f.chunks - 1) >= total
                )
                numbers = [int(i) + (values if plan.multiplexed else 0) for i in ids.ravel()]
                digits = [i // r**c if c == f.chunks - 1 else i // r**c % r for i in numbers]
                columns.append([first + c * r + digit for digit in digits])
            else:
                for z in range(plan.span):
                    hashes = [fmix32(int(i) ^ salt(plan.seed, f.name, c)) for i in ids.ravel()]
                    rows = [table * plan.rows + first + (h % number + z) % number for h in hashes]
                    if plan.signed:
                        sign = salt(plan.seed, f.name, f"{c * plan.span + z}/sign")
                        high = [fmix32(int(i) ^ sign) >= 2**31 for i in ids.ravel()]
                        rows = [-2 - row if flip else row for row, flip in zip(rows, high, strict=True)]
                    columns.append(rows)
        turn, values = turn + f.chunks, values + f.size
        out[f.name] = np.array(columns).T.reshape(*ids.shape, -1).astype(np.int32)
        if plan.merge == "weighted":
            first, number = shares(shared, plan.importance_rows, plan.multiplexed)[f.name]
            hashes = [fmix32(int(i) ^ salt(plan.seed, f.name, "importance")) for i in ids.ravel()]
            rows = np.array([first + h % number for h in hashes]).reshape(*ids.shape, 1)
            out[f.name + "/importance"] = rows.astype(np.int32)
    return out


def scheme_vectors(plan, params, codes):
    """{feature: [B, D]} of single values: rows read with their signs, then merged."""
    out = {}
    for f in plan.features:
        exact = f.vocabulary is not None
        table = np.asarray(params["exact"][f.name]["embedding"] if exact else params["table"]["embedding"])
        vectors = []
        for b, row in enumerate(codes[f.name]):
            read = [np.zeros(plan.width) if c == -1 else -table[-2 - c] if c < 0 else table[c] for c in row]
            if exact or plan.merge == "concat":
                vectors.append(np.concatenate(read))
                continue
            chunks = [np.concatenate(read[i : i + plan.span]) for i in range(0, len(read), plan.span)]
            if plan.merge == "weighted":
                importance = np.asarray(params["table"]["importance"])[codes[f.name + "/importance"][b, 0]]
                chunks = [p * chunk for p, chunk in zip(importance, chunks, strict=True)]
            vectors.append(np.prod(chunks, axis=0) if plan.merge == "product" else np.sum(chunks, axis=0))
        out[f.name] = np.array(vectors)
    return out


def distinct(codes, masks, rows, size, part=0):
    """Sorted list of kept rows, padded, and the place of each in it."""
    kept = {
        n: [
            (place, int(c[place]))
            for place in np.ndindex(c.shape)
            if c[place] != -1 and ((masks or {}).get(n) is None or masks[n][place[:-1]])
        ]
        for n, c in codes.items()
    }
    found = sorted({-2 - c if c < 0 else c for pairs in kept.values() for _, c in pairs})
    listed = found + [rows + i for i in range(size - len(found))]
    local = {n: np.full(c.shape, part * size + size - 1, np.int32) for n, c in codes.items()}
    for n, c in codes.items():
        for place in np.ndindex(c.shape):
            if c[place] < -1:
                local[n][place] = -2 - local[n][place]
        for place, code in kept[n]:
            slot = part * size + found.index(-2 - code if code < 0 else code)
            local[n][place] = -2 - slot if code < 0 else slot
    return np.array(listed, np.int32), local
