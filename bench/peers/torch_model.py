"""The guard in PyTorch, 0.6B shape, bfloat16, random weights: transformers' Qwen3 where it is installed, else a plain one."""

import torch
import torch.nn.functional as F

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD, INNER, VOCAB, THETA = 1024, 28, 16, 8, 128, 3072, 151936, 1e6


def linear(inputs, outputs):
    return torch.nn.Linear(inputs, outputs, bias=False)


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = torch.nn.RMSNorm(HIDDEN, eps=1e-6), torch.nn.RMSNorm(HIDDEN, eps=1e-6)
        self.q, self.k, self.v = (linear(HIDDEN, n * HEAD) for n in (HEADS, KV_HEADS, KV_HEADS))
        self.q_norm, self.k_norm = torch.nn.RMSNorm(HEAD, eps=1e-6), torch.nn.RMSNorm(HEAD, eps=1e-6)
        self.o = linear(HEADS * HEAD, HIDDEN)
        self.gate, self.up, self.down = linear(HIDDEN, INNER), linear(HIDDEN, INNER), linear(INNER, HIDDEN)

    def forward(self, x, cos, sin, cache, index):
        rows, length, _ = x.shape
        split = lambda y: y.view(rows, length, -1, HEAD).transpose(1, 2)
        turn = lambda y: y * cos + torch.cat((-y[..., HEAD // 2:], y[..., :HEAD // 2]), -1) * sin
        h = self.before(x)
        q, k = turn(self.q_norm(split(self.q(h)))), turn(self.k_norm(split(self.k(h))))
        v = split(self.v(h))
        if cache is not None:
            if index in cache:
                k, v = torch.cat((cache[index][0], k), 2), torch.cat((cache[index][1], v), 2)
            cache[index] = (k, v)
        # Several tokens come only at the start, one token sees everything: causal exactly where there is no past.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1, enable_gqa=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(rows, length, -1))
        h = self.after(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class PlainQwen3(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCAB, HIDDEN)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = torch.nn.RMSNorm(HIDDEN, eps=1e-6)

    def new_cache(self):
        return {}

    def forward(self, ids, cache):
        past = cache[0][0].shape[2] if cache else 0
        x = self.embed(ids)
        steps = torch.arange(0, HEAD, 2, device=ids.device, dtype=torch.float32) / HEAD
        places = torch.arange(past, past + ids.shape[1], device=ids.device, dtype=torch.float32)
        angles = torch.outer(places, THETA**-steps).repeat(1, 2)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, cache, index)
        return self.norm(x)


def library_qwen3():
    from transformers import DynamicCache, Qwen3Config, Qwen3Model

    config = Qwen3Config(
        hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
        head_dim=HEAD, intermediate_size=INNER, vocab_size=VOCAB, rms_norm_eps=1e-6, max_position_embeddings=8192,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": THETA},
        attn_implementation="sdpa")

    class LibraryQwen3(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Qwen3Model(config)

        def new_cache(self):
            return DynamicCache(config=config)

        def forward(self, ids, cache):
            return self.model(input_ids=ids, past_key_values=cache, use_cache=cache is not None).last_hidden_state

    return LibraryQwen3()


class Guard(torch.nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.pre = torch.nn.ModuleList([linear(HIDDEN, 512), linear(HIDDEN, 512)])
        self.norm = torch.nn.ModuleList([torch.nn.RMSNorm(512, eps=1e-6), torch.nn.RMSNorm(512, eps=1e-6)])
        self.heads = torch.nn.ModuleList([linear(512, n) for n in (3, 8, 3, 9)])

    def forward(self, ids, cache=None):
        """The logits in host memory, as whoever judges needs them: on a GPU this waits for the step."""
        hidden = self.backbone(ids, cache)
        inner = [norm(pre(hidden)) for pre, norm in zip(self.pre, self.norm)]
        return [head(inner[i // 2]).float().cpu() for i, head in enumerate(self.heads)]


def new_guard(device="cpu"):
    """A guard, and what its backbone is made of."""
    torch.manual_seed(0)
    try:
        backbone, implementation = library_qwen3(), "transformers"
    except ImportError:
        backbone, implementation = PlainQwen3(), "plain torch"
    return Guard(backbone).to(device, torch.bfloat16).eval(), implementation
