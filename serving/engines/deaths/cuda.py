"""The deaths by a GPU: its hardware, its driver, its memory, and kernels that fail on it."""

from serving.engines.deaths.model import Death
from serving.errors import (
    CudaFailed,
    DriverMismatch,
    FabricFailed,
    GpuFailed,
    GpuOccupied,
    OutOfMemory,
    Unsupported,
)

# Before what is read from the kernel rather than from the engine's log.
KERNEL = "kernel: "
RESEARCH, READ = "2026-11-29", "2026-11-30"  # when issue threads and pages were read

DRAIN = (
    "Take the GPU out of service and reset it (nvidia-smi -r), or replace it: its hardware failed."
)
FABRIC_MANAGER = (
    "Start nvidia-fabricmanager on this node, in the version of its driver: NVSwitch is not set up."
)
DRIVER_803 = (
    "Use an image whose CUDA version the node's driver supports, or set LD_LIBRARY_PATH to the "
    "libraries of the host's driver."
)
DRIVER_804 = (
    "Update the node's driver, or use an image with an older CUDA version: forward compatibility needs a data "
    "center GPU."
)
DRIVER_OLD = "Update the node's driver, or use a build of the engine for an older CUDA version."
DRIVER_MODULE = (
    "Reboot the node, or reload its driver: the libraries are newer than the loaded kernel module."
)
NO_DEVICE = "See that nvidia-smi works on this node, and in the container: the driver shows the engine no GPU."
MEMORY = "Lower the sequences and tokens per step, or raise topology.tensor_parallel."
BUSY = "End the process that uses the GPU, or leave the compute mode EXCLUSIVE_PROCESS (nvidia-smi -c 0)."
BUILD = "Use a build of the engine for this GPU architecture, or another attention or quantization backend."
KERNEL_FAILED = (
    "Choose another attention, MoE or quantization backend, or run without CUDA graphs: a kernel of this "
    "configuration fails; CUDA_LAUNCH_BLOCKING=1 shows which one."
)
IN_NCCL = (
    "Repeat with NCCL_DEBUG=INFO to see which call of CUDA failed: often NCCL itself lacks memory."
)

CUDA: tuple[Death, ...] = (
    # --- hardware
    Death(
        r"uncorrectable (ECC|NVLink) error",
        *(GpuFailed, DRAIN, "CUDA runtime; vllm#5222", RESEARCH),
    ),
    Death(
        rf"^{KERNEL}.*NVRM: Xid \([^)]*\): (48|63|64|74|79|94|95|119|120|140)\b",
        *(GpuFailed, DRAIN, "NVIDIA's driver, in the kernel log; Xid catalogue", RESEARCH),
    ),
    # --- driver
    Death(
        r"Error 803: system has unsupported display driver",
        *(DriverMismatch, DRIVER_803, "CUDA runtime; llm-d#706, gpustack#4678", RESEARCH),
    ),
    Death(
        r"Error 804: forward compatibility was attempted",
        *(DriverMismatch, DRIVER_804, "CUDA runtime; vllm#4940", RESEARCH),
    ),
    Death(
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient|"
        r"PTX was compiled with an unsupported toolchain",
        *(DriverMismatch, DRIVER_OLD, "torch; CUDA runtime", "2.14"),
        phase="start",
        counts="at the end",
    ),
    Death(
        r"Driver/library version mismatch",
        *(DriverMismatch, DRIVER_MODULE, "NVML", READ),
    ),
    Death(
        r"No CUDA GPUs are available|Found no NVIDIA driver on your system|"
        r"no CUDA-capable device is detected|No GPU devices found on the node",
        *(DriverMismatch, NO_DEVICE, "torch; CUDA runtime; TensorRT-LLM commands/serve.py", "2.14"),
        phase="start",
        counts="at the end",
    ),
    Death(
        r"\bsystem not yet initialized\b",
        *(FabricFailed, FABRIC_MANAGER, "CUDA error 802; pytorch#35710, gpustack#4154", READ),
        phase="start",
    ),
    # --- occupied
    Death(
        r"CUDA-capable device\(s\) is/are busy or unavailable",
        *(GpuOccupied, BUSY, "CUDA runtime", READ),
        phase="start",
    ),
    # --- memory
    Death(
        r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory",
        *(OutOfMemory, MEMORY, "torch", "2.14"),
    ),
    Death(
        r"Cuda failure (2 )?'out of memory'|\bCU(BLAS|DNN)_STATUS_ALLOC_FAILED\b",
        *(OutOfMemory, MEMORY, "NCCL; torch", "2.14"),
    ),
    # --- architecture
    Death(
        r"no kernel image is available for execution on the device",
        *(Unsupported, BUILD, "CUDA runtime; vllm#30855", RESEARCH),
    ),
    # --- kernels
    Death(
        r"CUDA error: (an illegal (memory access|instruction) was encountered|unspecified launch failure|"
        r"device-side assert triggered|misaligned address)",
        *(CudaFailed, KERNEL_FAILED, "CUDA runtime; vllm#23724, vllm#17098", READ),
    ),
    Death(
        rf"^{KERNEL}.*NVRM: Xid \([^)]*\): (13|31|43)\b",
        *(CudaFailed, KERNEL_FAILED, "NVIDIA's driver, in the kernel log; Xid catalogue", READ),
    ),
    Death(
        r"NCCL error\b.*unhandled cuda error",
        *(CudaFailed, IN_NCCL, "torch; TensorRT-LLM py_executor_creator.py", "1.3.0rc29"),
    ),
)
