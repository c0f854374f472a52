"""Models for parsers that read `config.json`: shapes as published on Hugging Face, without weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DENSE: Mapping[str, Any] = {  # meta-llama/Llama-3.3-70B-Instruct
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_hidden_layers": 80,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
MOE: Mapping[str, Any] = {  # Qwen/Qwen3-235B-A22B
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_hidden_layers": 94,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
MLA: Mapping[str, Any] = {  # deepseek-ai/DeepSeek-R1
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "quantization_config": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    },
}
MODELS = {"dense": DENSE, "moe": MOE, "mla": MLA}


def architectures(name: str) -> list[str]:
    """Of the model, and of its layers that draft."""
    drafts = ["DeepSeekMTPModel"] if name == "mla" else []
    return [*MODELS[name]["architectures"], *drafts]


def write_model(name: str, folder: Path, *, quantized: bool) -> Path:
    """A folder with its `config.json`; `quantized`: in the precision of the checkpoint, else in BF16."""
    path = folder / name
    path.mkdir(exist_ok=True)
    more = {"torch_dtype": "bfloat16", "hidden_act": "silu", "rms_norm_eps": 1e-5}
    config = {**more, **MODELS[name]}
    if not quantized:
        config.pop("quantization_config", None)
    (path / "config.json").write_text(json.dumps(config))
    return path
