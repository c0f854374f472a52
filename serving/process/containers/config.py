"""The container of an engine, as configured. Pure."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serving.topology import Seconds, Strict

Runtime = Literal["docker", "podman", "apptainer", "enroot", "pyxis"]
PYXIS: Runtime = "pyxis"  # a plugin of Slurm: `srun` is its command, and enroot its runtime
# Their containers are no children of the command that starts them: labels and a file with the id find them.
LABELLED: frozenset[str] = frozenset({"docker", "podman"})
Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9/.$][\w./:@#$+~-]*$")]
Volume = Annotated[str, Field(pattern=r"^/[^:\s]*:/[^:\s]*(:ro|:rw)?$")]
# These would take the container out of Wattfront's hands.
OURS = frozenset(
    [
        "-d",
        "--detach",
        "--cidfile",
        "--restart",
        "--rm",
        "--sig-proxy",
        "--log-driver",
        "--entrypoint",
        # pyxis
        "--container-image",
        "--container-name",
        "--container-entrypoint",
        "--no-container-entrypoint",
        "--export",
        "--job-name",
        "--nodelist",
        "--nodes",
        "--ntasks",
    ]
)
# Repositories whose tags are versions of a framework.
RELEASES = {
    "vllm/vllm-openai": "vllm",
    "lmsysorg/sglang": "sglang",
    "nvcr.io/nvidia/tensorrt-llm/release": "trtllm",
}


def client_name(runtime: Runtime) -> str:
    """A runtime's command."""
    return "srun" if runtime == PYXIS else runtime


_TAG = re.compile(r"v?(\d+\.\d+\.\d+(?:(?:rc|\.post|\.dev)\d+)*)(?:[-_].*)?")


class Container(Strict):
    """An image that has the engine, and the runtime that starts it."""

    runtime: Runtime = Field(
        default="docker",
        description="command that runs the container, on PATH of each node; pyxis: srun, in a Slurm job",
    )
    image: Reference = Field(
        description="image, best with its digest (NAME@sha256:…); for apptainer, enroot and pyxis also a path "
        "of a .sif or .sqsh file on every node"
    )
    volumes: tuple[Volume, ...] = Field(
        default=(),
        description="folders of the node that the container sees besides the model and the cache of models: "
        "/HOST:/CONTAINER, with :ro for read only",
    )
    args: tuple[str, ...] = Field(
        default=(), description="further arguments of the runtime, before the image"
    )
    pull: Literal["missing", "never", "always"] = Field(
        default="missing",
        description="when the image is fetched, before the engine's start is timed",
    )
    pull_timeout_s: Seconds = Field(
        default=3600.0, description="seconds after which fetching the image fails the trial"
    )
    cdi: bool | None = Field(
        default=None,
        description="pass GPUs by their CDI names (nvidia.com/gpu=…); unset: podman does, docker uses --gpus",
    )
    keep_entrypoint: bool = Field(
        default=False,
        description="leave the image's entrypoint in place: it gets the engine's command as its arguments",
    )

    @model_validator(mode="after")
    def _owned(self) -> Self:
        for word in self.args:
            if (option := word.partition("=")[0]) in OURS:
                raise ValueError(
                    f"args: {option} is set by Wattfront, which ends the container: leave it out"
                )
        return self

    @property
    def client(self) -> str:
        """The runtime's command."""
        return client_name(self.runtime)

    @property
    def is_file(self) -> bool:
        """Whether the image is a file of the node."""
        return self.image.startswith("/") or self.image.endswith((".sif", ".sqsh", ".img"))

    @property
    def uses_cdi(self) -> bool:
        """Whether GPUs are passed by their CDI names."""
        return self.runtime == "podman" if self.cdi is None else self.cdi

    def version_of(self, framework: str) -> str | None:
        """The version that the tag of a framework's own release names; None: it can't be told."""
        name, _, tag = self.image.partition("@")[0].removeprefix("docker://").rpartition(":")
        found = _TAG.fullmatch(tag)
        known = RELEASES.get(name.replace("#", "/").removeprefix("docker.io/"))
        return found[1] if found and known == framework else None
