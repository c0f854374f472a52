"""Flags on the command line: refused before a device is taken, and extracted where they count as known."""

import zipfile
from pathlib import Path

import pytest

from serving.engines.flags.schema import chosen
from tuner.cli.exit_codes import ExitCode
from tuner.cli.parser import main
from tuner.config.errors import ConfigError
from tuner.config.load import load

PLAN = ("plan", "experiment=b300_vllm", "search.prior.kind=none", "search.trials=1", "search=list")
FIELDS = """
class Parallel:
    tp_size: A[int, "…"] = 1
    brand_new: A[bool, "…"] = False
"""


def test_a_plan_refuses_a_flag_that_no_version_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAN, "engine.vllm.flags.max_num_seqz=3"]) == ExitCode.BAD_CONFIG
    assert capsys.readouterr().err == (
        "wattfront: engine.vllm: vLLM 0.33.0 has no --max-num-seqz; did you mean --max-num-seqs or "
        "--max-num-active-seqs?\n"
    )


def test_a_plan_says_which_flags_it_took_and_what_is_deprecated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["engine.vllm.version=0.32.0", "engine.vllm.extra_args=[--disable-cascade-attn]"]
    assert main([*PLAN, *words]) == ExitCode.DONE
    said = " ".join(capsys.readouterr().out.split())
    assert "engine.vllm: flags are those of vLLM 0.32.0" in said
    assert said.count("--disable-cascade-attn is deprecated in vLLM 0.32.0") == 1


def test_extracted_flags_count_as_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    wheel = tmp_path / "sglang-0.6.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("sglang/srt/arg_groups/fields/parallel.py", FIELDS)
        made.writestr("sglang/srt/server_args.py", "")
    assert main(["engines", "schema", str(wheel)]) == ExitCode.DONE
    said = capsys.readouterr().out
    written = tmp_path / "home" / "flags" / "sglang-0.6.0.json"
    assert f"SGLang 0.6.0: 2 flags, written to {written}" in said
    assert "against 0.5.23: new --brand-new; gone" in said
    found = chosen("sglang", "0.6.0")
    assert found is not None
    assert found.exact
    assert found.schema.find("brand_new") == "--brand-new"


@pytest.mark.parametrize("words", [["/no/such/engine"], ["torch-2.0-py3-none-any.whl"], []])
def test_what_has_no_flags_is_said_in_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engines", "schema", *words]) in (ExitCode.BAD_CONFIG, ExitCode.MISSING)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_value_of_another_version_is_refused_where_the_version_is_known() -> None:
    """`all` is of 0.29 alone."""
    mode = "engine.vllm.flags.mamba_cache_mode=all"
    load(["experiment=b300_vllm", mode])
    load(["experiment=b300_vllm", mode, "engine.vllm.version=0.29.0"])
    with pytest.raises(ConfigError, match=r"--mamba-cache-mode all: vLLM 0.33.0 takes"):
        load(["experiment=b300_vllm", mode, "engine.vllm.version=0.33.0"])
    with pytest.raises(ConfigError, match="--mamba-cache-mode no-such: vLLM"):
        load(["experiment=b300_vllm", "engine.vllm.flags.mamba_cache_mode=no-such"])
