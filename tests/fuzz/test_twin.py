"""`python -m serving.twin` with whatever settings and engine command lines."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.twin.__main__ import main
from serving.twin.config import TwinConfig
from tests.fuzz.ends import cases, ended_well
from tests.fuzz.grammar import VALUES, options

CODES = {0, 1, 2}
SETTINGS = st.dictionaries(st.sampled_from([*TwinConfig.model_fields, "x"]), VALUES, max_size=3)
CONFIGS = SETTINGS.map(json.dumps) | st.sampled_from(
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"x"',
        "[" * 2000,
        "NaN",
        "1" * 5000,
        "\udc80",
        '{"system": "b300_sxm"}',
    ]
)
COMMANDS = [
    ["vllm", "serve", "meta-llama/Llama-3.3-70B-Instruct"],
    ["sglang", "serve", "--model-path", "meta-llama/Llama-3.3-70B-Instruct"],
    ["trtllm-serve", "serve", "meta-llama/Llama-3.3-70B-Instruct"],
    ["vllm", "serve"],
    ["nosuch"],
    [],
]
FLAGS = {
    "--port": ("8000", "99999", "-1"),
    "--host": ("127.0.0.1", "nosuch"),
    "--tensor-parallel-size": ("8", "3", "0"),
    "--tp-size": ("8", "3"),
    "--tp_size": ("8",),
    "--max-num-seqs": ("64", "0"),
    "--max-model-len": ("16384", "0"),
    "--gpu-memory-utilization": ("0.9", "2"),
    "--compilation-config": ("{}", "{"),
    "--speculative-config": ('{"num_speculative_tokens": 3}', "[]", '{"method": 3}'),
    "--kv-cache-dtype": ("fp8", "nosuch"),
    "--extra_llm_api_options": ("nosuch.yaml", ".", "/dev/null"),
    "--served-model-name": ("m",),
    "--no-enable-prefix-caching": (),
    "--nosuch": (),
}


@pytest.mark.usefixtures("machine_folder")
@given(
    config=CONFIGS,
    system=st.sampled_from(
        [[], ["--system", "b300_sxm"], ["--system", "b300_sxm"], ["--system", "x"]]
    ),
    command=st.sampled_from(COMMANDS),
    flags=options(FLAGS),
)
@cases(250)
def test_command_lines(
    config: str, system: list[str], command: list[str], flags: list[Any]
) -> None:
    chosen = [] if config == "" else ["--config", config]
    ended_well(main, [*system, *chosen, "--", *command, *flags], CODES)
