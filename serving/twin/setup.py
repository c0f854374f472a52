"""What an engine's command line says, in words that all three frameworks share."""

from dataclasses import dataclass
from typing import Literal

Framework = Literal["vllm", "sglang", "trtllm"]


class FlagError(Exception):
    """The framework would refuse this command line; the text is what it would say."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Tokens and requests are those of one data-parallel rank, as the frameworks count them.

    `weights`, `kv`: the precision asked for; "auto" is that of the checkpoint. `data` ranks of `tensor`
    GPUs each; `lockstep` where they share experts and so each step. `graphs_upto`: the largest decode batch
    with a CUDA graph; 0: none.
    `receive_steps`: decode steps between two looks at what has arrived.
    """

    framework: Framework
    model: str  # as in the flags: a hub id or a path
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
        return self.tensor * self.pipeline * self.data
