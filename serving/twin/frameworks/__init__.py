"""What differs between vLLM, SGLang and TensorRT-LLM: flags and HTTP dialect."""
