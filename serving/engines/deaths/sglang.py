"""How SGLang dies. For lack of memory its remedies are opposite: at load, and at the capture of CUDA graphs."""

from serving.engines.deaths.model import Death, DeathTable
from serving.engines.deaths.platform import FLAGS, HOST_MEMORY, WEIGHTS
from serving.errors import (
    BadFlags,
    EngineExited,
    EngineHung,
    GpuOccupied,
    HostOutOfMemory,
    OutOfMemory,
    PortTaken,
    Unsupported,
    WeightsMissing,
)

FRACTION_UP = (
    "Raise mem_fraction_static or topology.tensor_parallel: the weights leave the KV cache none."
)
FRACTION_DOWN = (
    "Lower mem_fraction_static, or capture CUDA graphs of smaller batches: they need memory too."
)
LOWER_BATCH = (
    "Lower max_running_requests or chunked_prefill_size, or raise topology.tensor_parallel."
)
BACKEND = "Choose another attention_backend: this one has no kernels for this GPU."
LAYOUT = (
    "Change the layout: without data_parallel, attn_dp_size must divide topology.tensor_parallel; with it, "
    "leave attn_dp_size out."
)

SGLANG = DeathTable(
    deaths=(
        Death(
            r"The memory capacity is unbalanced\. Some GPUs may be occupied by other processes",
            GpuOccupied,
            "End the process that holds memory of one of the GPUs (nvidia-smi names it).",
            "srt/distributed/bootstrap.py",
            "0.5.23",
            phase="start",
        ),
        Death(
            r"scheduler died during initialization \(exit code: -9\)",
            *(HostOutOfMemory, HOST_MEMORY, "srt/entrypoints/engine.py", "0.5.23"),
            phase="load",
        ),
        Death(
            r"nccl_port at \d+ is not available",
            PortTaken,
            "Stop the process that holds the port, or leave --nccl-port out of extra_args.",
            "srt/utils",
            "0.5.23",
            phase="start",
        ),
        Death(
            r"The '?\w+'? backend is not supported on \w+ GPUs",
            *(Unsupported, BACKEND, "srt/layers/attention/vision.py", "0.5.23"),
        ),
        Death(
            r"Not enough memory\b.*mem-fraction-static",
            *(OutOfMemory, FRACTION_UP, "srt/model_executor/pool_configurator.py", "0.5.23"),
            phase="load",
        ),
        Death(
            r"Capture cuda graph failed: .*out of memory",
            *(
                OutOfMemory,
                FRACTION_DOWN,
                "srt/model_executor/decode_cuda_graph_runner.py",
                "0.5.23",
            ),
            phase="capture",
        ),
        Death(
            r"(Decode|Prefill) out of memory\. Try to lower your batch size",
            *(OutOfMemory, LOWER_BATCH, "srt/mem_cache/allocation.py", "0.5.23"),
            phase="under load",
        ),
        Death(
            r"Cannot find any model weights with",
            WeightsMissing,
            "Put the model's weight files at model.source on this node, or correct load_format.",
            "srt/model_loader/loader.py",
            "0.5.23",
            phase="load",
        ),
        Death(
            r"^(launch_server\.py|sglang)(?: [\w-]+)?: error: ",
            *(BadFlags, FLAGS, "argparse", "0.5.23"),
            phase="start",
        ),
        Death(
            r"data-parallel replicas combined with attention data parallelism are not supported|"
            r"multi-node data-parallel replicas are not supported",
            *(BadFlags, LAYOUT, "srt/arg_groups/parallel_hook.py", "0.5.23"),
            phase="start",
        ),
        Death(
            r"AssertionError: .*(_size|divisible)",
            *(BadFlags, LAYOUT, "srt/arg_groups/validation_hook.py", "0.5.23"),
            phase="start",
        ),
        Death(
            r"^(ValueError|AssertionError|NotImplementedError)\b",
            *(BadFlags, FLAGS, "srt/arg_groups/, srt/server_args.py", "0.5.23"),
            phase="start",
            counts="at the end",
            above=r"sglang/srt/(arg_groups/\w+|server_args)\.py",
        ),
        Death(
            r"watchdog timeout \(self\.watchdog_timeout=",
            EngineHung,
            "Raise --watchdog-timeout if a step may take that long; else leave out what is experimental.",
            "srt/utils/watchdog.py",
            "0.5.23",
        ),
        Death(
            r"^Subprocess \w+ \(pid=\d+\) crashed with exit code -\d+",
            EngineExited,
            "Read the log of that process above the line, and the kernel log: a signal ended it.",
            "srt/utils, run",
            "0.5.23",
            counts="alone",
        ),
    ),
    phases=(
        (r"Load weight begin", "load"),
        (r"Memory pool end|Capture (decode |prefill )?cuda graph begin", "capture"),
        (r"Capture (decode |prefill )?cuda graph end", "warm-up"),
        (r"The server is fired up and ready to roll", "under load"),
    ),
    remedies={
        OutOfMemory: {
            "load": WEIGHTS,
            "capture": FRACTION_DOWN,
            "warm-up": FRACTION_DOWN,
            "under load": "Lower mem_fraction_static or chunked_prefill_size: activations need more memory.",
            "": "Lower chunked_prefill_size and max_running_requests, or raise topology.tensor_parallel.",
        }
    },
)
