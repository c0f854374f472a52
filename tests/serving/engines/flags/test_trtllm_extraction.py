"""Flags of TensorRT-LLM from source: the grammar of its decorators, and of its lists of stable options."""

import zipfile
from pathlib import Path

import pytest

from serving.engines.flags.check import check
from serving.engines.flags.extraction.extract import extract
from serving.engines.flags.extraction.source import SourceTree, source_of
from serving.engines.flags.schema import Chosen, Flag, FlagSchema
from serving.errors import LaunchError

DECORATORS = {
    "tensorrt_llm/logger.py": 'severity_map = {"error": [1], "info": [2]}\n',
    "tensorrt_llm/builder.py": '''
class BuildConfig(BaseModel):
    max_batch_size: int = Field(default=2048, description="…")
    max_seq_len: Optional[int] = Field(default=None)
''',
    "tensorrt_llm/serve/tool_parser/tool_parser_factory.py": '''
class ToolParserFactory:
    parsers: dict[str, Type[BaseToolParser]] = {"qwen3": A, "kimi_k2": B}
''',
    "tensorrt_llm/llmapi/reasoning_parser.py": '''
class ReasoningParserFactory:
    _parsers = {}
@register_reasoning_parser("qwen3")
@register_reasoning_parser("deepseek-r1", reasoning_at_start=True)
class R1(BaseReasoningParser):
    pass
@register_reasoning_parser("poolside", "laguna")
class Other(BaseReasoningParser):
    pass
''',
    "tensorrt_llm/llmapi/llm_args.py": '''
class BaseLlmArgs(StrictBaseModel):
    model: Union[str, Path] = Field(description="…")
    enable_attention_dp: bool = Field(default=False)
class KvCacheConfig(StrictBaseModel):
    free_gpu_memory_fraction: float = 0.9
class TorchLlmArgs(BaseLlmArgs):
    kv_cache_config: KvCacheConfig = Field(default_factory=KvCacheConfig)
    attn_backend: str = Field(default="TRTLLM")
    _quant_config: Optional[QuantConfig] = PrivateAttr(default=None)
''',
    "tensorrt_llm/commands/common.py": '''
def llm_options(f):
    f = optgroup.group("Limits", help="…")(f)
    f = optgroup.option("--max_input_len", type=int, default=1024)(f)
    return f
''',
    "tensorrt_llm/commands/serve.py": '''
@click.command("other")
@click.option("--nothing", type=str)
def other(nothing):
    pass

@click.command("serve")
@click.argument("model", type=str)
@llm_options
@click.option("--backend", type=ChoiceWithAlias(["pytorch", "tensorrt"], {"trt": "tensorrt"}),
              default="pytorch")
@click.option("--config", "--extra_llm_api_options", "extra_llm_api_options", type=str, default=None)
@click.option('--log_level', type=click.Choice(severity_map.keys()), default='info')
@click.option("--max_batch_size", type=int, default=BuildConfig.model_fields["max_batch_size"].default)
@click.option("--max_seq_len", type=int, default=BuildConfig.model_fields["max_seq_len"].default)
@click.option("--tensor_parallel_size", "--tp_size", type=int, default=1)
@click.option("--moe_cluster_parallel_size", "--cluster_size", type=int, default=None,
              help=help_info_with_stability_tag("expert cluster parallelism size", "deprecated"))
@click.option("--trust_remote_code", is_flag=True, default=False, help="…")
@click.option("--custom_module_dirs", type=click.Path(exists=True), default=None, multiple=True)
@click.option("--tool_parser", type=click.Choice(ToolParserFactory.parsers.keys()), default=None)
@click.option("--reasoning_parser", type=click.Choice(list(ReasoningParserFactory.keys())), default=None)
@stability_option("--telemetry/--no-telemetry", default=True, help="…", status="beta")
def serve(model, backend):
    """Runs a server."""
    parser.add_argument("--no_option_of_click")
''',
}  # fmt: skip
LISTS = {
    "tests/unittest/api_stability/references/trtllm_serve_cli.yaml": """
audit_mode: false
commands:
  serve:
    options:
      backend:
        type: Choice(['_autodeploy', 'pytorch'])
        default: pytorch
        status: deprecated
        required: false
        multiple: false
        is_flag: false
        flags:
        - "--backend"
      custom_module_dirs:
        type: Path
        default: null
        status: prototype
        multiple: true
        is_flag: false
        flags:
        - "--custom_module_dirs"
      extra_llm_api_options:
        type: str
        default: null
        flags:
        - "--config"
        - "--extra_llm_api_options"
      fail_fast:
        type: bool
        default: true
        status: deprecated
        is_flag: true
        flags:
        - "--fail_fast"
      free_gpu_memory_fraction:
        type: float
        default: 0.9
        flags:
        - "--free_gpu_memory_fraction"
        - "--kv_cache_free_gpu_memory_fraction"
      moe_expert_parallel_size:
        type: int
        default: null
        flags:
        - "--ep_size"
        - "--moe_expert_parallel_size"
      telemetry:
        type: bool
        default: true
        is_flag: true
        flags:
        - "--no-telemetry"
        - "--telemetry"
  disaggregated:
    options:
      schedule_style:
        type: str
        flags: ["-s"]
""",
    "tests/unittest/api_stability/references/llm.yaml": """
methods:
  __init__:
    parameters:
      kv_cache_config:
        annotation: Optional[tensorrt_llm.llmapi.llm_args.KvCacheConfig]
        default: null
      allreduce_strategy:
        annotation: Optional[Literal['AUTO', 'NCCL']]
        default: AUTO
    return_annotation: None
""",
    "tests/unittest/api_stability/references_committed/llm.yaml": """
methods:
  __init__:
    parameters:
      model:
        annotation: Union[str, pathlib.Path]
        default: inspect._empty
      enable_chunked_prefill:
        annotation: bool
        default: false
      kwargs:
        annotation: Any
        default: inspect._empty
""",
    "tensorrt_llm/version.py": '# (c)\n__version__ = "99.0"\n',
}


def of(files: dict[str, str]) -> FlagSchema:
    return extract(SourceTree("trtllm", "99.0", "a test", files))


def test_decorators() -> None:
    schema = of(DECORATORS)
    assert schema.flags == {
        "--backend": Flag(
            type="str",
            default="pytorch",
            choices=("pytorch", "tensorrt", "trt"),
            replaced={"trt": "tensorrt"},
        ),
        "--config": Flag(type="str", aliases=("--extra_llm_api_options",)),
        "--custom_module_dirs": Flag(type="str", repeatable=True),
        "--log_level": Flag(type="str", default="info", choices=("error", "info")),
        "--max_batch_size": Flag(type="int", default=2048),
        "--max_input_len": Flag(type="int", default=1024),
        "--max_seq_len": Flag(type="int"),
        "--moe_cluster_parallel_size": Flag(
            type="int", aliases=("--cluster_size",), deprecated="leave it out"
        ),
        "--reasoning_parser": Flag(
            type="str", choices=("deepseek-r1", "qwen3", "poolside", "laguna")
        ),
        "--telemetry": Flag(type="bool", default=True, negatable=True),
        "--tensor_parallel_size": Flag(type="int", default=1, aliases=("--tp_size",)),
        "--tool_parser": Flag(type="str", choices=("qwen3", "kimi_k2")),
        "--trust_remote_code": Flag(type="bool", default=False),
    }
    assert schema.yaml == {
        "attn_backend": Flag(type="str", default="TRTLLM"),
        "enable_attention_dp": Flag(type="bool", default=False),
        "kv_cache_config": Flag(type="json"),
    }
    assert "--pipeline_parallel_size" in schema.gone  # of the nearest known version


def test_its_flags_are_checked_as_those_that_ship() -> None:
    known = Chosen(of(DECORATORS), True, "a test")
    words = ["--tp_size", "2", "--max_batchsize", "4", "--backend", "trt", "--tool_parser", "gpt"]
    said = {each.flag: (each.fatal, each.text) for each in check(known, words)}
    assert said["--max_batchsize"][0]
    assert "--max_batch_size" in said["--max_batchsize"][1]
    assert said["--backend"] == (
        False,
        "TensorRT-LLM 99.0 takes tensorrt in place of --backend trt",
    )
    assert said["--tool_parser"][0]
    assert "--tp_size" not in said


def test_the_lists_of_the_repository_come_first() -> None:
    schema = of(DECORATORS | LISTS)
    assert schema.flags == {
        # As the nearest known version says; other names and replacements are its own.
        "--backend": Flag(
            type="str",
            default="pytorch",
            choices=("_autodeploy", "pytorch"),
            deprecated="leave it out: pytorch is the only backend",
        ),
        "--config": Flag(type="str", aliases=("--extra_llm_api_options",)),
        "--custom_module_dirs": Flag(type="str", repeatable=True),
        "--fail_fast": Flag(type="bool", default=True, deprecated="leave it out"),
        "--free_gpu_memory_fraction": Flag(
            type="float", default=0.9, aliases=("--kv_cache_free_gpu_memory_fraction",)
        ),
        "--moe_expert_parallel_size": Flag(type="int", aliases=("--ep_size",)),
        "--telemetry": Flag(type="bool", default=True, negatable=True),
    }
    assert schema.yaml == {
        "allreduce_strategy": Flag(type="str", default="AUTO", choices=("AUTO", "NCCL")),
        "enable_chunked_prefill": Flag(type="bool", default=False),
        "kv_cache_config": Flag(type="json"),
    }


def test_a_source_tree_is_read_as_text(tmp_path: Path) -> None:
    for path, text in {**DECORATORS, **LISTS}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "tensorrt_llm" / "__init__.py").write_text("raise SystemExit\n")
    source = source_of(str(tmp_path))
    assert (source.framework, source.version) == ("trtllm", "99.0")
    assert extract(source).flags == of(DECORATORS | LISTS).flags
    (tmp_path / "tensorrt_llm" / "version.py").unlink()
    with pytest.raises(LaunchError, match="names a version: build the package first"):
        source_of(str(tmp_path))


def test_a_wheel_has_no_lists(tmp_path: Path) -> None:
    wheel = tmp_path / "tensorrt_llm-99.1-cp312-cp312-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for path, text in DECORATORS.items():
            made.writestr(path, text)
    schema = extract(source_of(str(wheel)))
    assert (schema.title, len(schema.flags)) == ("TensorRT-LLM 99.1", 13)


def test_an_empty_folder_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="no source tree of vLLM, SGLang or TensorRT-LLM"):
        source_of(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("tensorrt_llm/commands/serve.py", "def serve(): pass", "there is no command serve"),
        ("tensorrt_llm/commands/serve.py", "def serve(:", "no Python"),
        (next(iter(LISTS)), "commands: {serve: {options: [1]}}", "no commands.serve.options"),
        (next(iter(LISTS)), "commands: {serve: {options: {a: {type: 1}}}}", "a.type"),
        (next(iter(LISTS)), "commands: [}", "trtllm_serve_cli.yaml"),
    ],
)
def test_an_unknown_layout_is_said(path: str, text: str, said: str) -> None:
    with pytest.raises(LaunchError, match=said):
        of({**DECORATORS, path: text})


def test_the_package_of_a_tree_may_be_below_python(tmp_path: Path) -> None:
    package = tmp_path / "python" / "sglang"
    (package / "srt").mkdir(parents=True)
    (package / "srt" / "server_args.py").write_text("")
    (package / "_version.py").write_text("__version__ = version = '0.9.0'\n")
    source = source_of(str(tmp_path))
    assert (source.framework, source.version) == ("sglang", "0.9.0")
