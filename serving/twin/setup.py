"""An engine's command line in terms that all three frameworks share."""

from dataclasses import dataclass
from typing import Literal

Framework = Literal["vllm", "sglang", "trtllm"]


@dataclass(frozen=True, slots=True)
class Setup:
    """An engine's settings. Tokens and requests are those of one data-parallel rank, as frameworks count them.

    `model`: a hub id or a path, as in the flags. `context_tokens`: the maximum model length. `weights`, `kv`:
    the precision asked for; "auto" is the checkpoint's. `data` ranks of `tensor` GPUs each; `lockstep`: they
    share experts, and so every step. `step_tokens`: token budget of a step. `chunked`, `mixed`, `reserve`,
    `conservativeness`, `receive_steps`: as in `SchedulerConfig`. `graphs_upto`: the largest decode batch with a
    CUDA graph; 0 for none.
    """

    framework: Framework
    model: str
    served_model: str
    host: str
    port: int
    context_tokens: int
    weights: str = "auto"
    kv: str = "auto"
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1
    lockstep: bool = False
    max_sequences: int = 256
    step_tokens: int = 8192
    chunked: bool = True
    mixed: bool = True
    reserve: Literal["none", "all", "estimate"] = "none"
    conservativeness: float = 1.0
    memory_fraction: float = 0.9
    kv_tokens_limit: int | None = None
    block_tokens: int = 16
    prefix_caching: bool = True
    stream_interval: int = 1
    draft_tokens: int = 0
    graphs_upto: int = 512
    receive_steps: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of the engine."""
        return self.tensor * self.pipeline * self.data
