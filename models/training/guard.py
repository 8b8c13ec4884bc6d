"""The model: a Qwen3 backbone and the two moderators, in the tensor names of the released checkpoints."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Qwen3Config, Qwen3Model
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

RISKS = ["Safe", "Unsafe", "Controversial"]
CATEGORIES = [
    "Violent",
    "Sexual Content or Sexual Acts",
    "Suicide & Self-Harm",
    "Politically Sensitive Topics",
    "PII",
    "Copyright Violation",
    "Non-violent Illegal Acts",
    "Unethical Acts",
]
QUERY_CATEGORIES = [*CATEGORIES, "Jailbreak"]


def label_map(labels):
    return {str(i): label for i, label in enumerate(labels)}


def make_config(vocab_size):
    """config.json of the embedded model, with the fields of the released checkpoints."""
    return {
        "architectures": ["Qwen3ForGuardModel"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": vocab_size - 26,
        "eos_token_id": vocab_size - 24,
        "guard_inner_size": 128,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 256,
        "initializer_range": 0.02,
        "intermediate_size": 768,
        "max_position_embeddings": 2048,
        "model_type": "qwen3",
        "num_attention_heads": 4,
        "num_category": len(CATEGORIES),
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "num_query_category": len(QUERY_CATEGORIES),
        "num_query_risk_level": len(RISKS),
        "num_risk_level": len(RISKS),
        "query_category_map": label_map(QUERY_CATEGORIES),
        "query_risk_level_map": label_map(RISKS),
        "response_category_map": label_map(CATEGORIES),
        "response_risk_level_map": label_map(RISKS),
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": vocab_size,
    }


class Moderator(nn.Module):
    def __init__(self, hidden, inner, risks, categories, eps):
        super().__init__()
        self.pre = nn.Linear(hidden, inner, bias=False)
        self.norm = Qwen3RMSNorm(inner, eps)
        self.risk = nn.Linear(inner, risks, bias=False)
        self.category = nn.Linear(inner, categories, bias=False)

    def forward(self, hidden):
        inner = self.norm(self.pre(hidden))
        return self.risk(inner), self.category(inner)


class Guard(nn.Module):
    def __init__(self, config, attention="sdpa"):
        super().__init__()
        backbone = Qwen3Config(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=config["num_attention_heads"],
            num_key_value_heads=config["num_key_value_heads"],
            head_dim=config["head_dim"],
            intermediate_size=config["intermediate_size"],
            max_position_embeddings=config["max_position_embeddings"],
            rms_norm_eps=config["rms_norm_eps"],
            rope_parameters={"rope_type": "default", "rope_theta": config["rope_theta"]},
            tie_word_embeddings=True,
            use_cache=False,
            pad_token_id=None,
        )
        backbone._attn_implementation = attention
        self.config = config
        self.model = Qwen3Model(backbone)
        size = (config["hidden_size"], config["guard_inner_size"])
        eps = config["rms_norm_eps"]
        self.query = Moderator(*size, config["num_query_risk_level"], config["num_query_category"], eps)
        self.response = Moderator(*size, config["num_risk_level"], config["num_category"], eps)

    def hidden(self, ids, dropout=0.0):
        """Last hidden state after the final norm, [batch, length, hidden]. Pad on the right: attention is causal."""
        embedded = self.model.embed_tokens(ids)
        if dropout:
            embedded = nn.functional.dropout(embedded, dropout, self.training)
        return self.model(inputs_embeds=embedded, use_cache=False).last_hidden_state


NAMES = {
    "pre": "risk_level_category_pre",
    "norm": "risk_level_category_layernorm",
    "risk": "risk_level_head",
    "category": "category_head",
}


def _released_name(name):
    for side, prefix in (("query", "query_"), ("response", "")):
        if name.startswith(side + "."):
            _, part, leaf = name.split(".")
            return f"{prefix}{NAMES[part]}.{leaf}"
    return name


def save_guard(guard, folder, dtype=torch.bfloat16):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_released_name(k): v.detach().to(dtype).contiguous().clone() for k, v in guard.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(guard.config, indent=2) + "\n", encoding="utf-8")


def load_guard(folder):
    """A saved checkpoint as fp32."""
    folder = Path(folder)
    guard = Guard(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    tensors = load_file(folder / "model.safetensors")
    guard.load_state_dict({k: tensors[_released_name(k)].float() for k in guard.state_dict()})
    return guard.eval()
