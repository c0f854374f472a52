"""The deaths that any engine may die: GPUs, NCCL, the operating system, containers, the model hub."""

from serving.engines.deaths.container import CONTAINER
from serving.engines.deaths.cuda import CUDA, KERNEL, MEMORY, RESEARCH
from serving.engines.deaths.model import Death
from serving.errors import (
    BadFlags,
    DiskFull,
    EnvironmentBroken,
    FabricFailed,
    HostOutOfMemory,
    ModelGated,
    OutOfMemory,
    PeerLost,
    PortTaken,
    SharedMemoryExhausted,
    Unsupported,
    WeightsMissing,
)

FLAGS = (
    "Correct the flag that the line names, or leave it out: this version of the engine refuses it."
)
FABRIC = (
    "Set NCCL_SOCKET_IFNAME and NCCL_IB_HCA to the interfaces between the GPUs, and repeat with "
    "NCCL_DEBUG=INFO to see which link failed."
)
SHARED_MEMORY = (
    "Give the engine more shared memory: --ipc=host, or a larger --shm-size, and remove what killed engines "
    "left in /dev/shm."
)
GATED = (
    "Ask for access to the repository on its page, and set HF_TOKEN of that account on every node."
)
WEIGHTS = "Raise topology.tensor_parallel, or quantize the weights: they do not fit into the GPU's memory."
HOST_MEMORY = (
    "Run fewer engines at a time on this node (cluster.trials_at_once), or add host memory: the kernel killed "
    "the process."
)
DISK = "Free space on the disk that the line names, or move the cache of models to a larger one."
PORT = "Stop the process that holds the port, or leave the port out of extra_args: a free one is chosen."
PACKAGE = "Install the package that the line names into the environment of the engine on this node."

COMMON: tuple[Death, ...] = (
    *CUDA,
    # --- disk
    Death(
        r"\[Errno 28\] No space left on device|No space left on device \(os error 28\)",
        *(DiskFull, DISK, "Linux", RESEARCH),
        counts="at the end",
    ),
    # --- the hub
    Death(
        r"You are trying to access a gated repo",
        *(ModelGated, GATED, "transformers utils/hub.py", "5.19.0"),
        below=1,
    ),
    Death(
        r"GatedRepoError: 40[13]|Cannot access gated repo for url|Access to model \S+ is restricted",
        *(ModelGated, GATED, "huggingface_hub utils/_http.py; sglang#14644", "2.4.0"),
        below=1,
    ),
    Death(
        r"\b401 Client Error",
        *(ModelGated, GATED, "huggingface_hub utils/_http.py", "2.4.0"),
        below=1,
    ),
    Death(
        r"is not a local folder and is not a valid model identifier|"
        r"does not appear to have a file named",
        WeightsMissing,
        "Correct model.source, or put the model's files at that path on every node.",
        "transformers utils/hub.py",
        "5.19.0",
    ),
    # --- shared memory
    Death(
        r"Error while creating shared memory segment /dev/shm/",
        *(SharedMemoryExhausted, SHARED_MEMORY, "NCCL; production-stack#276", RESEARCH),
    ),
    Death(
        r"\bsignal 7\b|exit ?code:? -7\b|\bSIGBUS\b|Unexpected bus error encountered",
        *(SharedMemoryExhausted, SHARED_MEMORY, "vllm#1710", RESEARCH),
    ),
    # --- host memory
    Death(
        rf"^{KERNEL}.*([Oo]ut of memory: Killed process|the out-of-memory killer ended)",
        *(HostOutOfMemory, HOST_MEMORY, "Linux mm/oom_kill.c", RESEARCH),
    ),
    # --- ports
    Death(
        r"\[Errno 98\]|\baddress already in use|Failed to bind socket to \S+:\d+",
        *(PortTaken, PORT, "uvicorn; TensorRT-LLM", RESEARCH),
    ),
    # --- memory
    Death(
        r"^MemoryError\b|\[Errno 12\] Cannot allocate memory",
        *(OutOfMemory, MEMORY, "Python", "3.11"),
        counts="at the end",
    ),
    Death(
        r"std::bad_alloc|DefaultCPUAllocator: can't allocate memory",
        *(OutOfMemory, MEMORY, "C++; torch", "2.14"),
    ),
    # --- architecture
    Death(
        r"but Transformers does not recognize this architecture",
        Unsupported,
        "Use a version of the engine, or of transformers in its environment, that knows this architecture.",
        "transformers models/auto/configuration_auto.py",
        "5.19.0",
    ),
    # --- flags
    Death(
        r"^[\w.-]+(?: [\w.-]+)?: error: (unrecognized arguments?:|argument \S+: |ambiguous option|"
        r"the following arguments are required|invalid choice)",
        *(BadFlags, FLAGS, "Python's argparse", "3.11"),
    ),
    # --- environment
    Death(
        r"^ModuleNotFoundError: No module named|^ImportError: Please install ",
        *(EnvironmentBroken, PACKAGE, "Python; sglang", "0.5.23"),
        counts="at the end",
    ),
    Death(
        r"^(ImportError|OSError): \S+\.so\S*: cannot open shared object file",
        *(EnvironmentBroken, PACKAGE, "glibc", RESEARCH),
        counts="at the end",
    ),
    # --- network
    Death(
        r"gloo/transport/tcp/pair\.cc.*(Connection reset by peer|Connection closed by peer)",
        PeerLost,
        "Look for the cause in the log of the other rank or node: this process only lost its connection to it.",
        "gloo",
        "torch 2.13",
    ),
    Death(
        r"NCCL error: (?!.*unhandled cuda error)|nccl(System|Internal|Remote)Error",
        *(FabricFailed, FABRIC, "torch; vllm#16707", RESEARCH),
    ),
    Death(
        r"Watchdog caught collective operation timeout",
        *(FabricFailed, FABRIC, "torch ProcessGroupNCCL.cpp", RESEARCH),
    ),
    *CONTAINER,
)
