"""The deaths of containers: what docker, podman, apptainer, enroot and pyxis say. Almost all are the node's."""

from serving.engines.deaths.model import Death
from serving.errors import (
    ContainerFailed,
    EnvironmentBroken,
    HostOutOfMemory,
    LaunchError,
)

PULL = "Log in to the registry on this node, and check the name of the image: the pull was refused."
DAEMON = "Start the runtime's daemon on this node (systemctl start docker), or name its socket in DOCKER_HOST."
SOCKET = "Let this account use the runtime's socket (group docker), or use podman or apptainer."
TOOLKIT = "Install the NVIDIA Container Toolkit on the node, or pass GPUs by CDI (engine.X.container.cdi=true)."
CDI = "Write the node's CDI specification (nvidia-ctk cdi generate), and see nvidia-ctk cdi list."
FETCH = (
    "Fetch the image on this node before the study, or allow it (engine.X.container.pull=missing)."
)
NETWORK = "See that this node reaches the registry, or fetch the image there before the study."
COMMAND = "Name the engine's command inside the image in engine.X.executable, or use an image that has it."
LIMITS = "Raise the limits of this account on the node (ulimit), or lower them in engine.X.container.args."
SPACE = "Free space where the node keeps its images (docker system df), or move that folder to a larger disk."
NAME = "Leave --name out of engine.X.container.args, or remove the container that has the name."
ARGS = "Correct engine.X.container.args: this version of the runtime does not know the option."
MEMORY = (
    "Run fewer engines at a time on this node (cluster.trials_at_once), raise --memory in "
    "engine.X.container.args, or add host memory."
)
SLURM_MEMORY = (
    "Ask for more memory in the Slurm job (--mem), or run fewer engines at a time on this node."
)
PYXIS, SLURM = "pyxis 0.24.0, its source", "Slurm's srun and slurmstepd"
PODMAN, DOCKER, READ = "podman 4.3.1, run 2026-11-30", "docker", "2026-11-30"
# What was read from the runtime after the death rather than printed by it: see `containers/finish.py`.
REPORT = r"^container: "

CONTAINER: tuple[Death, ...] = (
    # --- GPUs
    Death(
        r'could not select device driver ".*" with capabilities: \[\[gpu\]\]',
        *(ContainerFailed, TOOLKIT, DOCKER, "2026-11-29"),
    ),
    Death(
        r"unresolvable CDI devices|failed to inject CDI devices|CDI device injection failed",
        *(ContainerFailed, CDI, PODMAN, "4.3.1"),
    ),
    Death(
        r"nvidia-container-cli: |Auto-detected mode as|unknown or invalid runtime name: nvidia|"
        r"Command not found: nvidia-container-cli",
        *(ContainerFailed, TOOLKIT, "libnvidia-container; enroot hooks/98-nvidia.sh", READ),
    ),
    # --- daemon
    Death(
        r"Cannot connect to the Docker daemon|[Uu]nable to connect to Podman( socket)?",
        *(ContainerFailed, DAEMON, "docker 28.2.2, run 2026-11-30", "28.2.2"),
    ),
    Death(
        r"permission denied while trying to connect to the [Dd]ocker (daemon|API)",
        *(ContainerFailed, SOCKET, DOCKER, READ),
    ),
    # --- images
    Death(
        r"pull access denied for|repository does not exist or may require 'docker login'|"
        r"unauthorized: authentication required|requested access to the resource is denied",
        *(ContainerFailed, PULL, DOCKER, "2026-11-29"),
    ),
    Death(
        r"[Nn]o such image: |: image not known$|manifest for \S+ not found|manifest unknown",
        *(ContainerFailed, FETCH, PODMAN, "4.3.1"),
    ),
    Death(
        r"pinging container registry|error getting credentials|net/http: TLS handshake timeout|"
        r'Get "https://[^"]+/v2/[^"]*": ',
        *(ContainerFailed, NETWORK, PODMAN, "4.3.1"),
    ),
    Death(
        r"\bno space left on device",
        *(ContainerFailed, SPACE, DOCKER, "2026-11-29"),
    ),
    # --- start
    Death(
        r"executable file not found in \$PATH|exec: \"[^\"]+\": (permission denied|stat .*no such file)",
        *(EnvironmentBroken, COMMAND, "runc 1.1.5 by podman, run 2026-11-30", "1.1.5"),
        phase="start",
    ),
    Death(
        r"\(catatonit:\d+\): failed to exec pid1: |^exec \S+ failed: (No such file|Permission)",
        *(EnvironmentBroken, COMMAND, "catatonit 0.1.7 by podman, run 2026-11-30; tini", "0.1.7"),
        phase="start",
    ),
    Death(
        r"setrlimit `?\w+`?: Operation not permitted|error setting rlimit",
        *(ContainerFailed, LIMITS, "crun 1.8.1, runc 1.1.5 by podman, run 2026-11-30", "1.8.1"),
    ),
    Death(
        r"container-init binary not found on the host",
        ContainerFailed,
        "Install the runtime's init on this node (catatonit for podman, tini for docker).",
        PODMAN,
        "4.3.1",
    ),
    Death(
        r"container name \"[^\"]+\" is already in use",
        *(ContainerFailed, NAME, PODMAN, "4.3.1"),
    ),
    Death(
        r"bind source path does not exist|^Error: statfs \S+: no such file or directory",
        ContainerFailed,
        "Correct engine.X.container.volumes, or make that folder on this node.",
        PODMAN,
        "4.3.1",
    ),
    Death(
        r"^(docker: |Error: )?unknown (shorthand )?flag: |^FATAL: +Unknown flag",
        *(LaunchError, ARGS, PODMAN, "4.3.1"),
        phase="start",
    ),
    Death(
        r"^(?!.*\bexec: )(?:docker: )?(OCI runtime (create|exec) failed|"
        r"Error: (OCI runtime error|crun|runc): |"
        r"Error response from daemon: (failed to create|Conflict|driver failed))",
        ContainerFailed,
        "See what the line says of this node's runtime; `wattfront doctor` shows its state.",
        PODMAN,
        "4.3.1",
    ),
    # --- Slurm
    Death(
        r"^srun: unrecognized option '--(no-)?container-",
        ContainerFailed,
        "Have pyxis installed in this Slurm, or take another engine.X.container.runtime.",
        *(PYXIS, READ),
    ),
    Death(
        r"^srun: error: Unable to (create step|confirm allocation) |^srun: error: Unable to allocate resources",
        ContainerFailed,
        "Start Wattfront inside a running Slurm job that has this node (SLURM_JOB_ID), and see its time limit.",
        *(SLURM, READ),
    ),
    Death(
        r"\*\*\* (JOB|STEP) \S+ ON \S+ CANCELLED AT \S+ DUE TO (TIME LIMIT|PREEMPTION|NODE FAILURE)",
        ContainerFailed,
        "Start a longer Slurm job, and resume the study: the job ended under the engine.",
        *(SLURM, READ),
    ),
    Death(
        r"^slurmstepd: error: execve\(\): \S+: (No such file|Permission denied)|"
        r"^sh: (line )?\d+: exec: \S+: (not found|No such file|Permission denied)",
        *(EnvironmentBroken, COMMAND, "dash 0.5.12, run 2026-11-30; bash, Slurm", READ),
        phase="start",
    ),
    Death(
        r"pyxis: failed to import docker image|pyxis: +\[ERROR\] URL https?://",
        *(ContainerFailed, FETCH, PYXIS, READ),
    ),
    Death(
        r"pyxis: (failed to create container filesystem|container start failed|container exited too soon|"
        r"couldn't (join|get container) |--container-mounts: source path does not exist)",
        ContainerFailed,
        "See the lines of `pyxis:` in the log, and try the image by `enroot start` on this node.",
        *(PYXIS, READ),
    ),
    Death(
        r"^srun: error: \S+: task \d+: Out Of Memory|[Dd]etected \d+ oom[_-]kill event",
        *(HostOutOfMemory, SLURM_MEMORY, SLURM, READ),
    ),
    # --- memory
    Death(
        rf"{REPORT}the kernel killed it for lack of memory",
        *(HostOutOfMemory, MEMORY, "State.OOMKilled of docker inspect", READ),
    ),
)
