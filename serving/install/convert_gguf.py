"""`convert_gguf.py MODEL.gguf FOLDER`: converts to bfloat16 safetensors. Run by an engine's own Python."""

import sys
from pathlib import Path


def main() -> None:
    """Writes model and tokenizer."""
    import torch  # type: ignore[import-not-found, unused-ignore]
    from transformers import (  # type: ignore[import-not-found, unused-ignore]
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,
    )

    gguf, to = Path(sys.argv[1]), sys.argv[2]
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # Without `dequantize` the weights stay packed, and can't be saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)


if __name__ == "__main__":
    main()
