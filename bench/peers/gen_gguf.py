"""A Gen guard's checkpoint as GGUF: python gen_gguf.py CHECKPOINT OUT.gguf q8_0|q4_0

The words of the vocabulary are left out, since ids go in and come out. As llama.cpp has it, the matrix that is the
embeddings and the LM head is of 8 bits in either.
"""

import json
import sys
from pathlib import Path

import gguf
from safetensors import safe_open

checkpoint, out, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3].upper()
config = json.loads((checkpoint / "config.json").read_text())
KIND = gguf.GGMLQuantizationType[name]
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
writer = gguf.GGUFWriter(out, "qwen3")
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_block_count(config["num_hidden_layers"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(config["num_attention_heads"])
writer.add_head_count_kv(config["num_key_value_heads"])
writer.add_key_length(config["head_dim"])
writer.add_value_length(config["head_dim"])
writer.add_rope_freq_base(config["rope_theta"])
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
vocabulary = config["vocab_size"]
writer.add_vocab_size(vocabulary)
writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{name}"])
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("qwen2")
writer.add_token_list([f"t{i}" for i in range(vocabulary)])
writer.add_token_types([gguf.TokenType.NORMAL] * vocabulary)
writer.add_token_merges(["t 0"])
writer.add_eos_token_id(151645)
writer.add_bos_token_id(151643)


def renamed(tensor):
    part = tensor.removesuffix(".weight")
    if not part.startswith("model.layers."):
        return f"{NAMES[part]}.weight"
    layer, rest = part.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[rest]}.weight"


for path in sorted(checkpoint.glob("*.safetensors")):
    with safe_open(path, "pt") as tensors:
        for tensor in tensors.keys():
            values = tensors.get_tensor(tensor).float().numpy()
            if values.ndim == 1:
                writer.add_tensor(renamed(tensor), values)
                continue
            kind = gguf.GGMLQuantizationType.Q8_0 if "embed" in tensor or "lm_head" in tensor else KIND
            writer.add_tensor(renamed(tensor), gguf.quants.quantize(values, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
