"""NVIDIA NIM for LLMs. Its settings are environment variables, and flags of the engine inside."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Launch, refuse_revision
from serving.engines.deaths.model import DeathTable
from serving.engines.deaths.nim import NIM
from serving.engines.flags.check import Finding, check, reserved, written
from serving.engines.flags.schema import TITLES, Chosen, chosen
from serving.engines.flags.variables import check_variables
from serving.process.environ import HUB_TOKENS
from serving.telemetry.engine_metrics import names, startup
from serving.telemetry.engine_metrics.page import MetricsPage
from serving.telemetry.engine_metrics.startup import StartupLines
from serving.topology import Positive, Topology

Inside = Literal["vllm", "sglang"]
INSIDE: tuple[Inside, ...] = ("vllm", "sglang")
# Knob → the flag of each engine that may be inside.
WORDS: Mapping[str, Mapping[Inside, str]] = {
    "max_num_seqs": {"vllm": "--max-num-seqs", "sglang": "--max-running-requests"},
    "max_num_batched_tokens": {
        "vllm": "--max-num-batched-tokens",
        "sglang": "--chunked-prefill-size",
    },
}
# `vllm-fp8-tp4-pp1-lora`, `sglang-h100-bf16-tp8-pp2`; else it is a hash.
PROFILE = re.compile(r"(?P<inside>[a-z_]+)-(?:[\w.]+-)*?tp(?P<tp>\d+)-pp(?P<pp>\d+)(?:-[\w-]+)?")


class Nim(BaseEngine):
    """In its container (`container`), or beside Wattfront in one that is there already."""

    default_executable: ClassVar[str] = "nim-serve"
    framework: ClassVar[str] = "nim"
    health_path: ClassVar[str] = "/v1/health/ready"
    takes_revision: ClassVar[bool] = False
    starts_by_image: ClassVar[bool] = True
    listens_everywhere: ClassVar[str] = "NIM listens on all interfaces"
    typical_start_s: ClassVar[float] = 180.0
    metrics_page: ClassVar[MetricsPage] = names.NIM
    startup_lines: ClassVar[StartupLines] = startup.NIM
    inherits: ClassVar[tuple[str, ...]] = ("NIM_*", "NGC_*")
    secrets: ClassVar[tuple[str, ...]] = ("NGC_API_KEY", *HUB_TOKENS)
    deaths: ClassVar[DeathTable] = NIM
    same_numerics: ClassVar[frozenset[str]] = frozenset(
        {"max_num_seqs", "max_num_batched_tokens", "disable_cuda_graph"}
    )

    kind: Literal["nim"] = Field(default="nim", description="NVIDIA NIM")
    model_profile: str | None = Field(
        default=None, description="NIM profile, by name or hash (NIM_MODEL_PROFILE)"
    )
    max_num_seqs: Positive | None = Field(
        default=None, description="most sequences in one step of the engine inside"
    )
    max_num_batched_tokens: Positive | None = Field(
        default=None, description="most tokens in one step of the engine inside"
    )
    disable_cuda_graph: bool | None = Field(
        default=None, description="run without CUDA graphs (NIM_DISABLE_CUDA_GRAPH)"
    )
    inside: Inside | None = Field(
        default=None,
        description="engine in the image, by whose flags the passed ones are checked; unset: as the profile's "
        "name says, else flags that either of them has",
    )
    inside_version: str | None = Field(
        default=None,
        description="version of the engine in the image; unset: its flags are those of the newest known",
    )
    passthrough_args: tuple[str, ...] = Field(
        default=(),
        description="flags for the engine inside (NIM_PASSTHROUGH_ARGS)",
    )

    def command(self, launch: Launch) -> list[str]:
        """`nim-serve` of NIM 2, or the `executable` of NIM 1; all settings are in `environ`."""
        refuse_revision(launch, "NIM")
        return [launch.executable, *self.extra_args]

    def environ(self, launch: Launch) -> dict[str, str]:
        """NIM's settings; what is unset is left out."""
        topology = launch.topology
        engine_args = self._passed(launch)
        own: dict[str, str | int | None] = {
            "NIM_MODEL_PATH": launch.model_path,
            "NIM_SERVED_MODEL_NAME": launch.served_model,
            "NIM_SERVER_PORT": launch.port,
            "NIM_MAX_MODEL_LEN": launch.context_tokens,
            "NIM_TENSOR_PARALLEL_SIZE": topology.tensor_parallel,
            "NIM_PIPELINE_PARALLEL_SIZE": topology.pipeline_parallel,
            "NIM_MODEL_PROFILE": self.model_profile,
            "NIM_DISABLE_CUDA_GRAPH": _truth(self.disable_cuda_graph),
            "NIM_PASSTHROUGH_ARGS": shlex.join(engine_args) or None,
        }
        given = {key: str(value) for key, value in own.items() if value is not None}
        return {**given, **super().environ(launch)}

    def refuses(self, topology: Topology, served_model: str) -> str:
        """Also a profile for another layout, or for an engine that NIM 2 does not have."""
        if why := super().refuses(topology, served_model):
            return why
        found = self._profile
        if found is None:
            return ""
        if found["inside"] not in INSIDE:
            return (
                f"model_profile={self.model_profile}: NIM 2 has vLLM or SGLang inside, no {found['inside']}: "
                "choose one that list-model-profiles shows"
            )
        sizes = int(found["tp"]), int(found["pp"])
        if sizes == (topology.tensor_parallel, topology.pipeline_parallel):
            return ""
        return (
            f"model_profile={self.model_profile} is for tensor_parallel={sizes[0]}, "
            f"pipeline_parallel={sizes[1]}, and the topology has {topology.tensor_parallel} and "
            f"{topology.pipeline_parallel}: change one of them"
        )

    def known_flags(self, version: str | None) -> Chosen | None:
        """Those of the engine inside, where it is known which one; else NIM's own."""
        inside = self._inside
        if inside is None:
            return chosen(self.framework, version or self.version)
        return chosen(inside, self.inside_version)

    def flag_words(self, launch: Launch) -> list[str]:
        """The words of `flags`, as the engine inside spells them."""
        known = None if self._inside is None else self.known_flags(launch.version)
        schema = known.schema if known else None
        return [word for name, value in self.flags.items() for word in written(schema, name, value)]

    def findings(self, launch: Launch) -> list[Finding]:
        """About its variables, by NIM's documentation; about what it passes on, by the engine inside.

        Where it is not known which one that is: about what both would refuse.
        """
        own = chosen(self.framework, launch.version or self.version)
        if own is None:
            return []
        variables = check_variables(own, "NIM_", self.environ(launch))
        further = [word for word in self.extra_args if word not in own.schema.flags]
        return [*variables, *self._of_passed([*self._passed(launch), *further])]

    @property
    def _profile(self) -> re.Match[str] | None:
        return PROFILE.fullmatch(self.model_profile or "")

    @property
    def _inside(self) -> Inside | None:
        if self.inside is not None or self._profile is None:
            return self.inside
        return next((each for each in INSIDE if each == self._profile["inside"]), None)

    def _passed(self, launch: Launch) -> list[str]:
        words = [*self.passthrough_args, *self.flag_words(launch)]
        for knob, spelled in WORDS.items():
            if (value := getattr(self, knob)) is not None:
                words += [spelled[self._inside or "vllm"], str(value)]
        return words

    def _of_passed(self, words: Sequence[str]) -> list[Finding]:
        inside = INSIDE if self._inside is None else (self._inside,)
        found: dict[str, list[Finding]] = {}
        for each in inside:
            known = chosen(each, self.inside_version if len(inside) == 1 else None)
            if known is not None:
                found[each] = [*reserved(known.schema, words), *check(known, words)]
        if len(found) == 1:
            return found.popitem()[1]
        fatal = {name: {f.flag for f in each if f.fatal} for name, each in found.items()}
        both = set.intersection(*fatal.values()) if fatal else set()
        titles = " nor ".join(TITLES[each] for each in found)
        return [
            Finding(f.flag, f"neither {titles} takes it: {f.text}", fatal=True)
            for f in found.get("vllm", [])
            if f.flag in both
        ]


def _truth(value: bool | None) -> int | None:
    return None if value is None else int(value)
