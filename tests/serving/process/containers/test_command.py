"""The command line of each runtime, whole: what a person would type, with names in place of values."""

import pytest
from pydantic import ValidationError

from serving.process.containers.command import (
    Mount,
    Run,
    client_environ,
    inside,
    run_argv,
)
from serving.process.containers.config import Container

IMAGE = "vllm/vllm-openai:v0.33.0@sha256:" + "ab" * 32
SERVE = ("vllm", "serve", "/models/m", "--port", "8000")
MOUNTS = (Mount.same("/models/m"), Mount.of("/data:/inside"))
LABELS = {"wattfront.engine": "7-8.ab", "wattfront.node": "boot.1.0"}


def run(runtime: str, *, gpus: tuple[str, ...] = ("0", "GPU-1"), **changes: object) -> Run:
    container = Container.model_validate(
        {"runtime": runtime, "image": IMAGE, "args": ["--shm-size", "1g"]}
    )
    labelled = (
        {"labels": LABELS, "cidfile": "/tmp/w/x.cid"} if runtime in ("docker", "podman") else {}
    )
    known = {"names": ("HF_TOKEN", "NCCL_DEBUG"), "mounts": MOUNTS, "gpus": gpus, **labelled}
    return Run(container, f"/usr/bin/{runtime}", IMAGE, SERVE, **{**known, **changes})  # type: ignore[arg-type]


def words(text: str) -> tuple[str, ...]:
    return tuple(IMAGE if word == "IMAGE" else word for word in text.split())


OWNED = "--label wattfront.engine=7-8.ab --label wattfront.node=boot.1.0 --cidfile /tmp/w/x.cid"
SEEN = "--volume /models/m:/models/m:ro --volume /data:/inside --env HF_TOKEN --env NCCL_DEBUG"
PLAIN = "run --init --network host --ipc host --log-driver none --pull never --ulimit memlock=-1"
ENGINE = "--entrypoint vllm IMAGE serve /models/m --port 8000"


def test_docker() -> None:
    assert run_argv(run("docker")) == words(
        f'/usr/bin/docker {PLAIN} --gpus "device=0,GPU-1" {SEEN} {OWNED} --shm-size 1g {ENGINE}'
    )


def test_podman() -> None:
    gpus = "--device nvidia.com/gpu=0 --device nvidia.com/gpu=GPU-1"
    assert run_argv(run("podman")) == words(
        f"/usr/bin/podman {PLAIN} {gpus} {SEEN} {OWNED} --shm-size 1g {ENGINE}"
    )
    limited = run_argv(run("podman", locks_memory=False, gpus=(), cores=(2, 3)))
    assert "--ulimit" not in limited
    assert limited[11:13] == ("--cpuset-cpus", "2,3")


def test_apptainer() -> None:
    assert run_argv(run("apptainer")) == words(
        "/usr/bin/apptainer exec --cleanenv --nv --bind /models/m:/models/m:ro --bind /data:/inside "
        "--shm-size 1g IMAGE vllm serve /models/m --port 8000"
    )
    assert "--nv" not in run_argv(run("apptainer", gpus=()))


def test_enroot() -> None:
    assert run_argv(run("enroot", rc="/log/rc.sh")) == words(
        "/usr/bin/enroot start --rw --rc /log/rc.sh --mount /models/m:/models/m:x-create=auto,rbind,ro "
        "--mount /data:/inside:x-create=auto,rbind --env HF_TOKEN --env NCCL_DEBUG --shm-size 1g IMAGE "
        "vllm serve /models/m --port 8000"
    )


STEP = "--overlap --nodes=1 --ntasks=1 --mem=0 --mpi=none --input=none"
UNSET = "unset CUDA_VISIBLE_DEVICES SLURM_JOB_ID SLURM_JOBID SLURM_NODELIST SLURM_JOB_NODELIST"
INSIDE = ("/bin/sh", "-c", f'{UNSET}; exec "$@"', "sh", *SERVE)


def test_pyxis() -> None:
    owned = {"step": "wattfront-7-8.ab", "node": "node05", "mark": "WATTFRONT_ENGINE"}
    names = "HF_TOKEN,NCCL_DEBUG,WATTFRONT_ENGINE"
    assert run_argv(run("pyxis", **owned)) == (
        *words(
            f"/usr/bin/pyxis {STEP} --cpu-bind=none --nodelist=node05 --job-name=wattfront-7-8.ab "
            f"--export={names} --container-env={names} "
            "--container-mounts=/models/m:/models/m:ro,/data:/inside --container-writable "
            "--no-container-mount-home --no-container-entrypoint --shm-size 1g"
        ),
        f"--container-image={IMAGE}",
        *INSIDE,
    )
    alone = run_argv(run("pyxis", gpus=(), cores=(1, 4), names=()))
    assert {"--cpu-bind=mask_cpu:0x12", "--gres=none", "--export=NIL"} <= {*alone}
    kept = Container(runtime="pyxis", image=IMAGE, keep_entrypoint=True)
    assert "--container-entrypoint" in run_argv(Run(kept, "srun", IMAGE, SERVE))


@pytest.mark.parametrize("runtime", ["docker", "podman", "apptainer", "enroot"])
def test_an_image_that_starts_its_engine_gets_no_command(runtime: str) -> None:
    argv = run_argv(run(runtime, by_image=True))
    assert argv[argv.index(IMAGE) :] == (IMAGE, *SERVE[1:])
    assert "--entrypoint" not in argv
    assert "exec" not in argv


def test_a_kept_entrypoint_gets_the_command() -> None:
    kept = Container(image=IMAGE, keep_entrypoint=True)
    argv = run_argv(Run(kept, "docker", IMAGE, SERVE))
    assert argv[-len(SERVE) - 1 :] == (IMAGE, *SERVE)
    assert "--entrypoint" not in argv


def test_gpus_by_cdi_where_it_is_asked_for() -> None:
    container = Container(image=IMAGE, cdi=True)
    argv = run_argv(Run(container, "docker", IMAGE, SERVE, gpus=("GPU-1",)))
    assert "nvidia.com/gpu=GPU-1" in argv
    assert "--gpus" not in argv


NODE = {"NCCL_DEBUG": "INFO", "NCCL_TOPO_FILE": "/etc/topo.xml", "HF_HOME": "/models/m/hub"}
GIVEN = {"CUDA_VISIBLE_DEVICES": "4,5", "VLLM_CONFIG_ROOT": "/any"}


def variables(runtime: str, gpus: tuple[str, ...]) -> dict[str, str]:
    container = Container.model_validate({"runtime": runtime, "image": IMAGE})
    return inside({**NODE, "NVIDIA_VISIBLE_DEVICES": "all"}, GIVEN, MOUNTS, container, gpus)


def test_variables_of_the_node_that_name_its_files_stay_outside() -> None:
    found = variables("docker", ("4", "5"))
    kept = {"NCCL_DEBUG": "INFO", "HF_HOME": "/models/m/hub", "VLLM_CONFIG_ROOT": "/any"}
    assert found == kept  # the runtime numbers the GPUs anew


def test_the_gpus_of_each_runtime() -> None:
    assert variables("docker", ())["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert (
        variables("podman", ("4", "5"))["NVIDIA_VISIBLE_DEVICES"] == "void"
    )  # CDI adds the devices
    for runtime in ("enroot", "pyxis"):
        found = variables(runtime, ("4", "5"))
        assert found["NVIDIA_VISIBLE_DEVICES"] == "4,5"
        assert "CUDA_VISIBLE_DEVICES" not in found
    assert variables("apptainer", ("4", "5"))["CUDA_VISIBLE_DEVICES"] == "4,5"


def test_apptainer_gets_values_by_its_prefix() -> None:
    container = Container(runtime="apptainer", image=IMAGE)
    assert client_environ(container, {"HF_TOKEN": "x"}) == {"APPTAINERENV_HF_TOKEN": "x"}


@pytest.mark.parametrize(
    ("image", "framework", "version"),
    [
        ("vllm/vllm-openai:v0.33.0", "vllm", "0.33.0"),
        (IMAGE, "vllm", "0.33.0"),
        ("docker.io/vllm/vllm-openai:v0.33.0-cu130", "vllm", "0.33.0"),
        ("lmsysorg/sglang:v0.5.23.post1-cu130", "sglang", "0.5.23.post1"),
        ("nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc29", "trtllm", "1.3.0rc29"),
        ("docker://nvcr.io#nvidia/tensorrt-llm/release:1.2.1", "trtllm", "1.2.1"),
        ("vllm/vllm-openai:latest", "vllm", None),
        ("vllm/vllm-openai:nightly-0.33.0", "vllm", None),
        ("vllm/vllm-openai", "vllm", None),
        ("site/vllm:1.2.3", "vllm", None),  # a version of theirs
        ("vllm/vllm-openai:v0.33.0", "sglang", None),
    ],
)
def test_the_version_that_a_release_names(image: str, framework: str, version: str | None) -> None:
    assert Container(image=image).version_of(framework) == version


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"image": "--privileged"}, "image"),
        ({"image": "a b"}, "image"),
        ({"image": "x", "volumes": ["data:/data"]}, "volumes"),
        ({"image": "x", "volumes": ["/a:/b:rx"]}, "volumes"),
        ({"image": "x", "args": ["--detach"]}, "--detach is set by Wattfront"),
        ({"image": "x", "args": ["--cidfile=/x"]}, "--cidfile is set by Wattfront"),
        ({"image": "x", "args": ["--export=ALL"]}, "--export is set by Wattfront"),
        ({"image": "x", "runtime": "lxc"}, "runtime"),
        ({"image": "x", "pull": "often"}, "pull"),
    ],
)
def test_what_is_no_container_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Container.model_validate(wrong)
