"""Transfer of KV caches out of an engine and into it, under the same knobs in all frameworks. Pure.

Connectors are those that vLLM 0.32.0 registers, the choices of SGLang 0.5.22 and 0.5.23, and the backends of
`cache_transceiver_config` in TensorRT-LLM's documentation of 1.2 and 1.3.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from serving.engines.flags.structured import Structured
from serving.topology import Positive

Words = dict[str, str | int | None]
ROLES = "none: no transfer; prefill: computes KV caches that another engine fetches; decode: fetches them"
VLLM_ROLES = {"prefill": "kv_producer", "decode": "kv_consumer", "both": "kv_both"}
VLLM_CONNECTORS = Literal[
    "NixlConnector", "NixlPullConnector", "NixlPushConnector", "MooncakeConnector",
    "MooncakeStoreConnector", "LMCacheConnectorV1", "LMCacheMPConnector", "OffloadingConnector",
    "SimpleCPUOffloadConnector", "MoRIIOConnector", "MultiConnector", "FlexKVConnectorV1",
    "HF3FSKVConnector", "HiSparseConnector", "ExampleConnector", "DecodeBenchConnector",
]  # fmt: skip


class KvTransfer(Structured):
    """The role of an engine, and how the caches travel."""

    role: str = "none"
    connector: str | None = None

    @property
    def active(self) -> bool:
        """Whether anything is transferred."""
        return self.role != "none"

    def canonical(self) -> Self | None:
        """None without a role."""
        return self if self.active else None


class VllmKvTransfer(KvTransfer):
    """vLLM's `--kv-transfer-config`."""

    role: Literal["none", "prefill", "decode", "both"] = Field(
        default="none", description=f"{ROLES}; both: one engine does both, as to offload"
    )
    connector: VLLM_CONNECTORS | None = Field(
        default=None, description="what transfers; needed for any role but none"
    )
    load_failure: Literal["fail", "recompute"] | None = Field(
        default=None,
        description="what becomes of a request whose cache does not arrive; unset: fail",
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="`kv_connector_extra_config`, as the connector wants it"
    )

    @model_validator(mode="after")
    def _has_its_connector(self) -> Self:
        if self.active and self.connector is None:
            raise ValueError(f"role {self.role} needs `connector`")
        return self


class SgLangKvTransfer(KvTransfer):
    """SGLang's `--disaggregation-…`."""

    role: Literal["none", "prefill", "decode"] = Field(default="none", description=ROLES)
    connector: Literal["mooncake", "mooncake_tcp", "nixl", "mori", "ascend", "fake"] | None = Field(
        default=None,
        description="what transfers; fake: nothing, to measure decoding alone; unset: mooncake",
    )
    ib_device: str | None = Field(default=None, description="InfiniBand device, such as mlx5_0")
    bootstrap_port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        default=None, description="port where the roles find each other; unset: 8998"
    )

    @model_validator(mode="after")
    def _fake_decodes(self) -> Self:
        if self.role == "prefill" and self.connector == "fake":
            raise ValueError("connector fake is for role decode: SGLang's prefill refuses it")
        return self


class TrtLlmKvTransfer(KvTransfer):
    """TensorRT-LLM's `cache_transceiver_config`, in the YAML."""

    role: Literal["none", "prefill", "decode"] = Field(default="none", description=ROLES)
    connector: Literal["DEFAULT", "NIXL", "UCX", "MOONCAKE", "MPI"] | None = Field(
        default=None, description="what transfers; unset: DEFAULT, which is NIXL"
    )
    max_tokens_in_buffer: Positive | None = Field(
        default=None, description="tokens that a transfer holds at most: at least those of a prompt"
    )


def vllm(transfer: VllmKvTransfer | None) -> Words:
    """Nothing without a role."""
    if transfer is None or not transfer.active:
        return {}
    found: dict[str, Any] = {
        "kv_connector": transfer.connector,
        "kv_role": VLLM_ROLES[transfer.role],
        "kv_load_failure_policy": transfer.load_failure,
        "kv_connector_extra_config": transfer.extra or None,
    }
    kept = {key: value for key, value in found.items() if value is not None}
    return {"--kv-transfer-config": json.dumps(kept)}


def sglang(transfer: SgLangKvTransfer | None) -> Words:
    """Nothing without a role."""
    if transfer is None or not transfer.active:
        return {}
    return {
        "--disaggregation-mode": transfer.role,
        "--disaggregation-transfer-backend": transfer.connector,
        "--disaggregation-ib-device": transfer.ib_device,
        "--disaggregation-bootstrap-port": transfer.bootstrap_port,
    }


def trtllm(transfer: TrtLlmKvTransfer | None) -> Mapping[str, Any]:
    """Keys of the YAML. A prefill server can't overlap scheduling, by the documentation of 1.2."""
    if transfer is None or not transfer.active:
        return {}
    found: dict[str, Any] = {"backend": transfer.connector or "DEFAULT"}
    if transfer.max_tokens_in_buffer is not None:
        found["max_tokens_in_buffer"] = transfer.max_tokens_in_buffer
    overlap = {"disable_overlap_scheduler": True} if transfer.role == "prefill" else {}
    return {"cache_transceiver_config": found, **overlap}
