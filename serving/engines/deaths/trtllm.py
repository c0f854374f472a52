"""How TensorRT-LLM dies."""

from serving.engines.deaths.model import Death, DeathTable
from serving.engines.deaths.platform import FLAGS
from serving.errors import BadFlags, EngineExited, OutOfMemory

FRACTION = (
    "Lower max_batch_size or max_num_tokens, or raise topology.tensor_parallel: the executor does not fit into "
    "the GPU's memory."
)

TRTLLM = DeathTable(
    deaths=(
        Death(
            r"Executor creation failed due to insufficient GPU memory",
            *(OutOfMemory, FRACTION, "_torch/pyexecutor/py_executor_creator.py", "1.3.0rc29"),
            phase="load",
        ),
        Death(
            r"cudaMalloc\w*\b.*out of memory|CUDA runtime error in .*out of memory",
            *(OutOfMemory, FRACTION, "C++ runtime", "1.3.0rc29"),
            phase="load",
        ),
        Death(
            r"^Error: (No such option|Invalid value|Got unexpected|Missing (option|argument))",
            *(BadFlags, FLAGS, "click", "1.2.1"),
            phase="start",
        ),
        Death(
            r"validation errors? for \w*(LlmArgs|Config)\b",
            *(BadFlags, FLAGS, "llmapi/llm_args.py", "1.3.0rc29"),
            phase="start",
            below=2,
        ),
        Death(
            r"Executor loop crashed on this rank; hard-killing all \d+ ranks",
            EngineExited,
            "Read the traceback of that rank above the line: it ended all others.",
            "TensorRT-LLM#18663",
            "2026-11-29",
            counts="alone",
        ),
    ),
    phases=(
        (r"Loading weights|Prefetching checkpoint files", "load"),
        (r"tokens in paged KV cache", "warm-up"),
        (r"CUDA graph warmup|Creating CUDA graph", "capture"),
        (r"Application startup complete", "under load"),
    ),
    remedies={
        OutOfMemory: {
            "capture": "Lower kv_cache_free_gpu_memory_fraction or max_batch_size: CUDA graphs need "
            "memory too.",
            "under load": "Lower kv_cache_free_gpu_memory_fraction or max_num_tokens: steps need "
            "more memory than the warm-up did.",
            "": FRACTION,
        }
    },
)
