"""How vLLM dies."""

from serving.engines.deaths.model import Death, DeathTable
from serving.engines.deaths.platform import FLAGS, WEIGHTS
from serving.errors import (
    BadFlags,
    EngineHung,
    GpuOccupied,
    KvCacheTooSmall,
    OutOfMemory,
    Phase,
    Unsupported,
    WeightsMissing,
)

NO_ROOM = (
    "Raise gpu_memory_utilization or topology.tensor_parallel: the weights leave the KV cache none."
)
CONTEXT = (
    "Lower model.context_tokens to the length that the line estimates, or raise gpu_memory_utilization or "
    "topology.tensor_parallel."
)
OCCUPIED = (
    "End the process that holds the GPU's memory (nvidia-smi names it): the GPU was not free when the engine "
    "started."
)
CPU_MEMORY = (
    "Lower gpu_memory_utilization or cpu_kvcache_space_gib, or end other processes: the node has less memory "
    "free than the engine wants."
)
QUANTIZATION = (
    "Use another quantization or a checkpoint of another precision: this GPU can't compute it."
)
HANG = (
    "Leave out what is experimental in this configuration (speculation, async_scheduling, all2all_backend): a "
    "worker did not answer."
)

PHASES: tuple[tuple[str, Phase], ...] = (
    (r"Starting to load model|Loading (safetensors|pt) checkpoint|Loading weights took", "load"),
    (r"Model loading took|Compiling a graph|torch\.compile took", "warm-up"),
    (r"GPU KV cache size|Capturing (CUDA|cudagraph)", "capture"),
    (r"Graph capturing finished|init engine \(profile, create kv cache, warmup model\)", "warm-up"),
    (r"Application startup complete", "under load"),
)

VLLM = DeathTable(
    deaths=(
        Death(
            r"Free memory on device .* on startup is less than desired",
            *(GpuOccupied, OCCUPIED, "v1/worker/utils.py", "0.33.0"),
            phase="start",
        ),
        Death(
            r"less than the engine's budget after excluding external process",
            *(GpuOccupied, OCCUPIED, "v1/worker/utils.py", "0.33.0"),
            phase="start",
        ),
        Death(
            r"is not supported for the current GPU|is not supported for quantization method",
            *(Unsupported, QUANTIZATION, "config/vllm.py", "0.33.0"),
        ),
        Death(
            r"Model architectures? .* (are|is) not supported",
            Unsupported,
            "Use a version of vLLM that knows this architecture, or another model.",
            "model_executor/models/registry.py",
            "0.32.0",
        ),
        Death(
            r"KV cache is needed, which is larger than the available KV cache memory",
            *(KvCacheTooSmall, CONTEXT, "v1/core/kv_cache_planning.py", "0.33.0"),
            phase="load",
        ),
        Death(
            r"No available memory for the cache blocks",
            *(OutOfMemory, NO_ROOM, "v1/core/kv_cache_planning.py", "0.33.0"),
            phase="load",
        ),
        Death(
            r"CUDA out of memory occurred when warming up (sampler|pooler)",
            OutOfMemory,
            "Lower max_num_seqs: the sampler's warm-up takes memory for each sequence.",
            "v1/worker/gpu_model_runner.py",
            "0.33.0",
            phase="warm-up",
        ),
        Death(
            r"Failed to load model - not enough GPU memory",
            OutOfMemory,
            WEIGHTS,
            "v1/worker/gpu_model_runner.py",
            "0.32.0",
            phase="load",
        ),
        Death(
            r"The worker already uses .* leaving none for the KV cache",
            *(OutOfMemory, CPU_MEMORY, "v1/worker/cpu_worker.py", "0.33.0"),
            phase="load",
        ),
        Death(
            r"Available memory on node \d+ .* is less than requested memory for kv",
            *(OutOfMemory, CPU_MEMORY, "v1/worker/cpu_worker.py", "0.33.0"),
            phase="load",
        ),
        Death(
            r"Available memory on node \d+ .* is less than desired CPU memory utilization",
            *(OutOfMemory, CPU_MEMORY, "v1/worker/cpu_worker.py", "0.32.0"),
            phase="start",
        ),
        Death(
            r"Cannot find any model weights with",
            WeightsMissing,
            "Put the model's weight files at model.source on this node, or correct load_format.",
            "model_executor/model_loader/default_loader.py",
            "0.33.0",
            phase="load",
        ),
        Death(
            r"^(api_server\.py|vllm)(?: [\w-]+)?: error: ",
            *(BadFlags, FLAGS, "argparse", "0.33.0"),
            phase="start",
        ),
        Death(
            r"validation errors? for \w+(Config|Args)$",
            *(BadFlags, FLAGS, "config/", "0.33.0"),
            phase="start",
            below=2,
        ),
        Death(
            r"Async scheduling is not supported",
            BadFlags,
            "Leave async_scheduling out: it can't be combined with this configuration.",
            "config/vllm.py",
            "0.33.0",
            phase="start",
        ),
        Death(
            r"^(ValueError|AssertionError|NotImplementedError)\b",
            *(BadFlags, FLAGS, "config/, engine/arg_utils.py", "0.32.0"),
            phase="start",
            counts="at the end",
            above=r"vllm/(config/\w+|engine/arg_utils)\.py",
        ),
        Death(
            r"RPC call to \w+ timed out",
            *(EngineHung, HANG, "v1/executor/multiproc_executor.py", "0.33.0"),
        ),
        Death(
            r"No available shared memory broadcast block found in \d+ seconds",
            *(EngineHung, HANG, "distributed/device_communicators/shm_broadcast.py", "0.33.0"),
            counts="alone",
        ),
    ),
    phases=PHASES,
    remedies={
        OutOfMemory: {
            "load": WEIGHTS,
            "capture": "Lower max_num_seqs or gpu_memory_utilization: CUDA graphs need memory too.",
            "warm-up": "Lower max_num_batched_tokens or max_num_seqs: the largest step does not fit.",
            "under load": "Lower gpu_memory_utilization or max_num_batched_tokens: steps need more "
            "memory than the warm-up did.",
            "": "Lower max_num_batched_tokens and max_num_seqs, or raise topology.tensor_parallel.",
        }
    },
)
