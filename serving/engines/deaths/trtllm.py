"""How TensorRT-LLM dies. What it could not create decides the remedy for a lack of memory."""

from serving.engines.deaths.model import Death, DeathTable
from serving.engines.deaths.platform import FLAGS
from serving.errors import BadFlags, EngineExited, EngineHung, KvCacheTooSmall, OutOfMemory

FRACTION = (
    "Lower max_batch_size or max_num_tokens, or raise topology.tensor_parallel: the executor does not fit into "
    "the GPU's memory."
)
# Component of `_ExecutorMemoryMonitor`, as it is named there → the remedy.
COMPONENTS = (
    (
        r"KV cache$",
        "Lower kv_cache_free_gpu_memory_fraction: the KV cache does not fit beside what is loaded.",
    ),
    (
        r"Model$",
        "Raise topology.tensor_parallel, quantize the weights, or lower max_num_tokens: the model does not fit "
        "into the GPU's memory.",
    ),
    (
        r"Draft model for speculative decoding",
        "Raise topology.tensor_parallel, lower max_num_tokens, or leave speculation out: the draft model does "
        "not fit beside the model.",
    ),
    (
        r"(Sampler|Drafter|Guided Decoder|Speculative decoding resources)",
        "Lower model.context_tokens or max_batch_size: what is kept for each sequence does not fit.",
    ),
    (
        r"(Initial KV [Cc]ache|Additional executor resources|Model resources created)",
        "Lower max_num_tokens: the largest step does not fit into the GPU's memory.",
    ),
)
CREATOR = "_torch/pyexecutor/py_executor_creator.py"
CONTEXT = (
    "Lower model.context_tokens, or raise kv_cache_free_gpu_memory_fraction or topology.tensor_parallel: no "
    "request of full length fits into the KV cache."
)
STATES = "Lower max_batch_size: the recurrent states of so many sequences do not fit."

TRTLLM = DeathTable(
    deaths=(
        *(
            Death(
                rf"^The following component could not be created: {component}",
                *(OutOfMemory, remedy, CREATOR, "1.3.0rc29; TensorRT-LLM#5872"),
                phase="load",
                below=2,
            )
            for component, remedy in COMPONENTS
        ),
        Death(
            r"Executor creation failed due to insufficient GPU memory",
            *(OutOfMemory, FRACTION, CREATOR, "1.3.0rc29"),
            phase="load",
        ),
        Death(
            r"cudaMalloc\w*\b.*out of memory|CUDA runtime error in .*out of memory",
            *(OutOfMemory, FRACTION, "C++ runtime", "1.3.0rc29"),
            phase="load",
        ),
        Death(
            r"run out of mamba cache blocks",
            *(OutOfMemory, STATES, "mamba_cache_manager.py; TensorRT-LLM#13179", "2026-11-30"),
        ),
        Death(
            r"maxTokensInPagedKvCache\b.*must be large enough",
            *(KvCacheTooSmall, CONTEXT, "C++ runtime; TensorRT-LLM#542", "2026-11-30"),
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
            r"^Hang detected after \d+ seconds",
            EngineHung,
            "Leave out what is experimental in this configuration: its executor made no step for so long.",
            "_torch/pyexecutor/hang_detector.py",
            "main, 2026-11-30",
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
