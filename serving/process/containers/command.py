"""The command line that starts an engine in a container, for each runtime. Pure.

Variables are passed by name: their values are in the environment of the command, never in its arguments.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from serving.process.containers.config import LABELLED, PYXIS, Container

# What the runtimes themselves read, for their daemons, storage and registries.
CLIENT = (
    *("DOCKER_*", "BUILDKIT_*", "CONTAINER_*", "CONTAINERS_*", "STORAGE_*", "REGISTRY_AUTH_FILE"),
    *("APPTAINER_*", "SINGULARITY_*", "ENROOT_*", "MELLANOX_*", "DBUS_SESSION_BUS_ADDRESS"),
    *("APPTAINER_DOCKER_USERNAME", "APPTAINER_DOCKER_PASSWORD"),
    *("SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID"),
)
APPTAINER_PREFIX = (
    "APPTAINERENV_"  # apptainer takes values on its command line, or variables with this prefix
)
# The runtime itself decides which GPUs the container sees, and there they have other numbers.
VISIBLE = "CUDA_VISIBLE_DEVICES"
NVIDIA_VISIBLE = "NVIDIA_VISIBLE_DEVICES"
# Slurm sets these for each task: its numbers of GPUs are wrong in the container, and an MPI that finds itself
# in Slurm starts its processes there.
OF_SLURM = (VISIBLE, "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_NODELIST", "SLURM_JOB_NODELIST")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the node, as the container sees it."""

    source: str
    target: str
    read_only: bool

    @classmethod
    def of(cls, volume: str) -> "Mount":
        """`/HOST:/CONTAINER[:ro]`."""
        source, target, *mode = volume.split(":")
        return cls(source, target, mode == ["ro"])

    @classmethod
    def same(cls, path: str, *, read_only: bool = True) -> "Mount":
        """At the same path."""
        return cls(path, path, read_only)


@dataclass(frozen=True, slots=True)
class Run:
    """What a runtime needs to start an engine.

    `client`: the runtime's command. `image`: as it takes it. `command`: of the engine; without its first word
    it is started by the image itself. `names`: of the variables that the container gets. `labels` and
    `cidfile`: by which its owner finds it. `rc`: enroot's script in place of the image's entrypoint.
    `step`: name of the step of a Slurm job, on `node`. `mark`: name of the variable that its processes have.
    """

    container: Container
    client: str
    image: str
    command: tuple[str, ...]
    names: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    locks_memory: bool = True
    by_image: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    cidfile: str = ""
    rc: str = ""
    step: str = ""
    node: str = ""
    mark: str = ""


def run_argv(run: Run) -> tuple[str, ...]:
    """The command line of the runtime, in the foreground."""
    runtime = run.container.runtime
    if runtime in LABELLED:
        return tuple(_docker(run))
    if runtime == PYXIS:
        return tuple(_pyxis(run))
    return tuple(_apptainer(run) if runtime == "apptainer" else _enroot(run))


def _docker(run: Run) -> list[str]:
    """Docker and podman. The container is removed by its owner, which first asks why it ended: no `--rm`."""
    container, command = run.container, list(run.command)
    own = run.by_image or container.keep_entrypoint
    entrypoint = [] if own else ["--entrypoint", command.pop(0)]
    if run.by_image:
        command.pop(0)
    return [
        run.client,
        "run",
        *(
            "--init",
            "--network",
            "host",
            "--ipc",
            "host",
            "--log-driver",
            "none",
            "--pull",
            "never",
        ),
        *(["--ulimit", "memlock=-1"] if run.locks_memory else []),
        *_gpus(container, run.gpus),
        *(["--cpuset-cpus", ",".join(map(str, run.cores))] if run.cores else []),
        *(word for each in run.mounts for word in ("--volume", _volume(each))),
        *(word for name in run.names for word in ("--env", name)),
        *(word for name, text in run.labels.items() for word in ("--label", f"{name}={text}")),
        *(["--cidfile", run.cidfile] if run.cidfile else []),
        *container.args,
        *entrypoint,
        run.image,
        *command,
    ]


def _gpus(container: Container, gpus: Sequence[str]) -> list[str]:
    if not gpus:
        return []
    if container.uses_cdi:
        return [word for gpu in gpus for word in ("--device", f"nvidia.com/gpu={gpu}")]
    # The value is read as CSV: the quotes keep the commas inside one field.
    return ["--gpus", f'"device={",".join(gpus)}"']


def _volume(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"


def _apptainer(run: Run) -> list[str]:
    """An ordinary child, in the pid and network namespaces of the node; `VISIBLE` chooses its GPUs."""
    own = run.by_image or run.container.keep_entrypoint
    return [
        run.client,
        "run" if own else "exec",
        "--cleanenv",
        *(["--nv"] if run.gpus else []),
        *(word for each in run.mounts for word in ("--bind", _volume(each))),
        *run.container.args,
        run.image,
        *(run.command[1:] if run.by_image else run.command),
    ]


def _enroot(run: Run) -> list[str]:
    """An ordinary child, whose root is writable in memory."""
    return [
        run.client,
        "start",
        "--rw",
        *(["--rc", run.rc] if run.rc else []),
        *(word for each in run.mounts for word in ("--mount", _fstab(each))),
        *(word for name in run.names for word in ("--env", name)),
        *run.container.args,
        run.image,
        *(run.command[1:] if run.by_image else run.command),
    ]


def _pyxis(run: Run) -> list[str]:
    """A step beside the others of the Slurm job that this process is in: no child of ours."""
    names = ",".join([*run.names, *([run.mark] if run.mark else [])])
    cores = f"mask_cpu:{sum(1 << core for core in run.cores):#x}" if run.cores else "none"
    return [
        run.client,
        *("--overlap", "--nodes=1", "--ntasks=1", "--mem=0", "--mpi=none", "--input=none"),
        f"--cpu-bind={cores}",
        *([] if run.gpus else ["--gres=none"]),
        *([f"--nodelist={run.node}"] if run.node else []),
        *([f"--job-name={run.step}"] if run.step else []),
        f"--export={names or 'NIL'}",
        *([f"--container-env={names}"] if names else []),
        *([f"--container-mounts={','.join(map(_volume, run.mounts))}"] if run.mounts else []),
        *("--container-writable", "--no-container-mount-home"),
        f"--{'' if run.container.keep_entrypoint else 'no-'}container-entrypoint",
        *run.container.args,
        f"--container-image={run.image}",
        *("/bin/sh", "-c", f'unset {" ".join(OF_SLURM)}; exec "$@"', "sh"),
        *run.command,
    ]


def _fstab(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}:x-create=auto,rbind{',ro' if mount.read_only else ''}"


def gpu_variables(container: Container, gpus: Sequence[str]) -> dict[str, str]:
    """Variables that choose the GPUs of the container, where the runtime's arguments do not.

    Images of CUDA ask for all GPUs by themselves, which a node may grant.
    """
    if container.runtime == "apptainer":
        return {}
    if container.runtime in ("enroot", PYXIS) and gpus:
        return {NVIDIA_VISIBLE: ",".join(gpus), "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    if container.runtime in LABELLED and gpus and not container.uses_cdi:
        return {}
    return {NVIDIA_VISIBLE: "void"}


def inside(
    node: Mapping[str, str],
    given: Mapping[str, str],
    mounts: Iterable[Mount],
    container: Container,
    gpus: Sequence[str],
) -> dict[str, str]:
    """The variables of the container: those of the node, then those that are given for it.

    A path of the node that the container does not have is left out, as are the numbers of the GPUs.
    """
    seen = [mount.target for mount in mounts]
    kept = {
        name: value
        for name, value in node.items()
        if name != NVIDIA_VISIBLE and (not value.startswith("/") or _under(value, seen))
    }
    found = {**kept, **given, **gpu_variables(container, gpus)}
    if gpus and container.runtime != "apptainer":
        found.pop(VISIBLE, None)
    if (
        container.runtime == "apptainer"
    ):  # it mounts the home of the node, which may have Python packages
        found.setdefault("PYTHONNOUSERSITE", "1")
    return found


def _under(path: str, folders: Iterable[str]) -> bool:
    whole = PurePosixPath(path)
    return any(whole.is_relative_to(folder) for folder in folders)


def client_environ(container: Container, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with which the runtime's command is started, so that it passes these on."""
    prefix = APPTAINER_PREFIX if container.runtime == "apptainer" else ""
    return {f"{prefix}{name}": value for name, value in variables.items()}
