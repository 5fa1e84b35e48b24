"""A BERT in torch with the weights of a drawn one, and its training steps."""

import numpy as np


def bert(torch, tensors, form, device, compiled):
    """The encoder of ``texts.draw`` as a module ``(ids, mask) -> [B, D]``: mean of the tokens, length 1.

    Where ``compiled``, each block goes through ``torch.compile``. The blocks are alike, so one is compiled.
    """
    functional, nn = torch.nn.functional, torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            width, hidden = form["width"], form["hidden"]
            self.inside, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
            self.first, self.second = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)

        def forward(self, x, mask):
            rows, length, width = x.shape
            parts = self.inside(x).view(rows, length, 3, form["heads"], -1).permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(*parts, attn_mask=mask[:, None, None, :])
            x = self.first(x + self.out(y.transpose(1, 2).reshape(rows, length, width)))
            return self.second(x + self.down(functional.gelu(self.up(x))))

    class Bert(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(len(tensors["embeddings.word_embeddings.weight"]), form["width"])
            self.places = nn.Parameter(torch.zeros(512, form["width"]))
            self.norm = nn.LayerNorm(form["width"], 1e-12)
            self.blocks = nn.ModuleList([Block() for _ in range(form["layers"])])

        def forward(self, ids, mask):
            x = self.norm(self.table(ids) + self.places[: ids.shape[1]])
            for block in self.blocks:
                x = block(x, mask)
            kept = mask[:, :, None].to(x.dtype)
            return functional.normalize(((x * kept).sum(1) / kept.sum(1)).float(), dim=-1)

    with torch.device(device):
        model = Bert()
    model.load_state_dict({name: torch.tensor(x) for name, x in _renamed(tensors, form).items()})
    for block in model.blocks if compiled else ():
        block.compile(dynamic=False)
    return model


def _renamed(tensors, form):
    """The tensors under the names of the module above; queries, keys and values are one."""
    base = "embeddings."
    found = {"table.weight": tensors[base + "word_embeddings.weight"]}
    types = tensors[base + "token_type_embeddings.weight"][:1]
    found["places"] = tensors[base + "position_embeddings.weight"] + types
    names = {"out": "attention.output.dense", "first": "attention.output.LayerNorm"}
    names |= {"up": "intermediate.dense", "down": "output.dense", "second": "output.LayerNorm"}
    for end in ("weight", "bias"):
        found[f"norm.{end}"] = tensors[f"{base}LayerNorm.{end}"]
        for n in range(form["layers"]):
            layer = f"encoder.layer.{n}."
            parts = [tensors[f"{layer}attention.self.{x}.{end}"] for x in ("query", "key", "value")]
            found[f"blocks.{n}.inside.{end}"] = np.concatenate(parts)
            found |= {f"blocks.{n}.{k}.{end}": tensors[f"{layer}{v}.{end}"] for k, v in names.items()}
    return found


def trainer(torch, model, ids, mask, sizes, chunks):
    """A function that takes one step with in-batch negatives; ``chunks`` above 1 caches gradients."""
    functional = torch.nn.functional
    rule = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=1e-4)
    parts = list(zip(ids.chunk(chunks), mask.chunk(chunks), strict=True))
    target = torch.arange(len(ids) // 2, device=ids.device)

    def vectors(part):
        with torch.autocast(ids.device.type, dtype=torch.bfloat16):
            return model(*part).float()

    def loss(v):
        total = 0
        for size in sizes:
            q, d = functional.normalize(v[:, :size], dim=-1).chunk(2)
            total = total + functional.cross_entropy(q @ d.T / 0.05, target)
        return total

    def once():
        rule.zero_grad()
        if chunks == 1:
            loss(vectors(parts[0])).backward()
        else:
            with torch.no_grad():
                found = torch.cat([vectors(part) for part in parts])
            loss(found.requires_grad_()).backward()
            for part, g in zip(parts, found.grad.chunk(chunks), strict=True):
                (vectors(part) * g).sum().backward()
        rule.step()

    return once
