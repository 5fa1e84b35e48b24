"""Small GGUF files of a Llama model, written as llama.cpp's converter writes them."""

import struct

import numpy as np

SIZES = {"block_count": 2, "embedding_length": 32, "feed_forward_length": 64, "context_length": 64}
HEADS, KEYS = 4, 2
WORDS = [chr(c) for c in range(33, 127)] + [chr(c) for c in (*range(161, 173), *range(174, 324))]
MERGES = ["a b", "Ġ a"]
TOKENS = ["<|endoftext|>", *WORDS, "ab", "Ġa"]
PARTS = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
PARTS |= {"ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64)}
F32, Q4_0, Q4_1, Q8_0 = 0, 2, 3, 8


def model_tensors(seed=0, head=False):
    """The weights of a tiny model, {name: [out, in]}, under the names of GGUF and in its order of rows."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(0, 0.2, shape).astype(np.float32)

    found = {"token_embd.weight": draw(len(TOKENS), 32), "output_norm.weight": 1 + draw(32)}
    found |= {"output.weight": draw(len(TOKENS), 32)} if head else {}
    for n in range(SIZES["block_count"]):
        found |= {f"blk.{n}.{part}.weight": draw(*shape) for part, shape in PARTS.items()}
        found |= {f"blk.{n}.{part}.weight": 1 + draw(32) for part in ("attn_norm", "ffn_norm")}
    return found


def settings(**changed):
    """The settings of that model."""
    found = {f"llama.{name}": value for name, value in SIZES.items()}
    found |= {"llama.attention.head_count": HEADS, "llama.attention.head_count_kv": KEYS}
    found |= {"llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000.0}
    found |= {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}
    found |= {"tokenizer.ggml.tokens": TOKENS, "tokenizer.ggml.merges": MERGES}
    found |= {"tokenizer.ggml.token_type": [3] + [1] * (len(TOKENS) - 1)}
    return {k: v for k, v in (found | changed).items() if v is not None}


def quantised(x, kind):
    """The bytes of a tensor, [..., 32 n], in a kind; the blocks are written by plain loops."""
    if kind == F32:
        return x.astype("<f4").tobytes()
    out = b""
    for block in x.reshape(-1, 32):
        low, high = float(block.min()), float(block.max())
        if kind == Q8_0:
            scale = max(abs(low), abs(high)) / 127 or 1.0
            out += struct.pack("<e", scale) + np.round(block / scale).astype(np.int8).tobytes()
            continue
        scale = (high - low) / 15 or 1.0 if kind == Q4_1 else max(abs(low), abs(high)) / 7 or 1.0
        offset = low if kind == Q4_1 else 0.0
        codes = np.clip(np.round((block - offset) / scale) + (0 if kind == Q4_1 else 8), 0, 15).astype(
            np.uint8
        )
        out += struct.pack("<e", scale) + (struct.pack("<e", offset) if kind == Q4_1 else b"")
        out += bytes(int(codes[i]) | int(codes[i + 16]) << 4 for i in range(16))
    return out


def _string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value):
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)


def write_gguf(path, tensors=None, told=None, kinds=None, version=3):
    """Writes a file; ``kinds`` gives the kind of some tensors, the others are F32."""
    tensors = model_tensors() if tensors is None else tensors
    told, kinds = settings() if told is None else told, kinds or {}
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(told))
    head += b"".join(_string(name) + _value(value) for name, value in told.items())
    body = b""
    for name, x in tensors.items():
        kind = kinds.get(name, F32)
        head += _string(name) + struct.pack(f"<I{x.ndim}Q", x.ndim, *x.shape[::-1])
        head += struct.pack("<IQ", kind, len(body))
        body += quantised(x, kind)
        body += b"\0" * (-len(body) % 32)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)
    return path
