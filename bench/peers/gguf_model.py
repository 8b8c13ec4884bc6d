"""Writes a GGUF in the 0.6B shape with random weights in Q4_0: python gguf_model.py OUT.gguf

The vocabulary is cut to 1,024: the tied output matrix then stands in for the moderators' two 1,024 × 512 matrices, so
that no language model's output is paid for.
"""

import sys

import gguf
import numpy as np

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, SIZE, VOCAB = 1024, 3072, 28, 16, 8, 128, 1024
rng = np.random.default_rng(0)
writer = gguf.GGUFWriter(sys.argv[1], "qwen3")
writer.add_context_length(8192)
writer.add_embedding_length(HIDDEN)
writer.add_block_count(LAYERS)
writer.add_feed_forward_length(INNER)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KV_HEADS)
writer.add_key_length(SIZE)
writer.add_value_length(SIZE)
writer.add_rope_freq_base(1e6)
writer.add_layer_norm_rms_eps(1e-6)
writer.add_vocab_size(VOCAB)
writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("qwen2")
writer.add_token_list([f"t{i}" for i in range(VOCAB)])
writer.add_token_types([gguf.TokenType.NORMAL] * VOCAB)
writer.add_token_merges(["t 0"])
writer.add_eos_token_id(VOCAB - 1)
writer.add_bos_token_id(VOCAB - 2)


def matrix(name, rows, columns):
    values = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.9 / np.sqrt(columns))
    kind = gguf.GGMLQuantizationType.Q4_0
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def ones(name, width):
    writer.add_tensor(name, np.ones(width, np.float32))


matrix("token_embd.weight", VOCAB, HIDDEN)
ones("output_norm.weight", HIDDEN)
for layer in range(LAYERS):
    block = f"blk.{layer}."
    ones(f"{block}attn_norm.weight", HIDDEN)
    ones(f"{block}ffn_norm.weight", HIDDEN)
    ones(f"{block}attn_q_norm.weight", SIZE)
    ones(f"{block}attn_k_norm.weight", SIZE)
    matrix(f"{block}attn_q.weight", HEADS * SIZE, HIDDEN)
    matrix(f"{block}attn_k.weight", KV_HEADS * SIZE, HIDDEN)
    matrix(f"{block}attn_v.weight", KV_HEADS * SIZE, HIDDEN)
    matrix(f"{block}attn_output.weight", HIDDEN, HEADS * SIZE)
    matrix(f"{block}ffn_gate.weight", INNER, HIDDEN)
    matrix(f"{block}ffn_up.weight", INNER, HIDDEN)
    matrix(f"{block}ffn_down.weight", HIDDEN, INNER)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
