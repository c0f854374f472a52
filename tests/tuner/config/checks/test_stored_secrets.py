"""A secret in the configuration is refused in one line, before anything is stored, printed or started."""

from pathlib import Path
from typing import Any

import pytest

from tuner.cli.exit_codes import ExitCode
from tuner.cli.parser import main
from tuner.config.checks.stored_secrets import stored_secrets
from tuner.config.load import load, save

VALUE = "c4nary-v4lue"
CASES = {
    f"+engine.vllm.env.HF_TOKEN={VALUE}": "engine.vllm.env.HF_TOKEN: its value would be stored",
    f"+engine.vllm.env={{VLLM_API_KEY:{VALUE}}}": "engine.vllm.env_passthrough=[VLLM_API_KEY]",
    "+engine.vllm.env.SITE=${oc.env:CANARY}": "engine.vllm.env_passthrough=[SITE]",
    f"+engine.vllm.extra_args=[--api-key,{VALUE}]": "engine.vllm.extra_args: the value of --api-key",
    f"tracking.uri=http://me:{VALUE}@host:5000": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "tracking.uri=postgresql://me:${oc.env:CANARY}@db/mlflow": "tracking.uri: its password",
    f"+engine.vllm.container={{image:x,args:[--env,'HF_TOKEN={VALUE}']}}": (
        "engine.vllm.container.args: the value of HF_TOKEN"
    ),
    "tracking.uri=${oc.env:CANARY_URI}": "tracking.uri: its password",
    f"+power.sources.bmc={{kind:ipmi,command:[sudo,ipmitool,-P,{VALUE},dcmi,power,reading]}}": (
        "power.sources.bmc.command: the value of -P"
    ),
}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY", VALUE)
    monkeypatch.setenv("CANARY_URI", f"http://me:{VALUE}@host:5000")


@pytest.mark.thorough
@pytest.mark.parametrize("override", CASES)
@pytest.mark.parametrize("command", [["tune"], ["plan"], ["tune", "--cfg", "job"], ["simulate"]])
def test_a_secret_is_refused_in_one_line(
    override: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "CANARY_URI" in override and "--cfg" in command:
        pytest.skip("printed as written: the reference, not the value")
    first, *options = command
    code = main([first, "experiment=b300_vllm", override, *options])
    said = capsys.readouterr()
    assert code == ExitCode.BAD_CONFIG
    assert len(said.err.splitlines()) == 1
    assert CASES[override] in said.err
    assert VALUE not in said.err + said.out
    assert not (tmp_path / "studies").exists()


def test_a_sweep_prints_none_before_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    secret = f"+engine.vllm.env.HF_TOKEN={VALUE}"
    code = main(["tune", "-m", "experiment=b300_vllm", "search.seed=1,2", secret, "--cfg", "job"])
    said = capsys.readouterr()
    assert code == ExitCode.BAD_CONFIG
    assert VALUE not in said.err + said.out


@pytest.mark.parametrize(
    "override",
    [
        "+engine.vllm.env={VLLM_ATTENTION_BACKEND: FLASHINFER, SGLANG_INIT_NEW_TOKEN_RATIO: '0.5'}",
        "+engine.vllm.env.VLLM_API_KEY=''",
        "+engine.vllm.extra_args=[--max-num-batched-tokens,'4096',--ssl-keyfile,/k]",
        "+engine.vllm.env_passthrough=[HF_TOKEN,SITE]",
        "tracking.uri=postgresql://me@db:5432/mlflow",
        "+power.sources.bmc={kind:ipmi,command:[ipmitool,-E,-H,bmc,-U,me,dcmi,power,reading]}",
    ],
)
def test_what_is_no_secret_is_taken(override: str) -> None:
    load(["experiment=b300_vllm", override])


def test_variables_are_passed_by_name_alone(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plan", "experiment=b300_vllm", "+engine.vllm.env_passthrough=['HF_TOKEN=x']"])
    assert code == ExitCode.BAD_CONFIG
    assert "engine.vllm.env_passthrough" in capsys.readouterr().err


def test_an_older_study_with_a_secret_is_reported_but_not_resumed_or_mirrored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = load(["experiment=b300_vllm", "tracking.uri=http://host:5000"])
    tracking = study.tracking.model_copy(update={"uri": f"http://me:{VALUE}@host:5000"})
    folder = tmp_path / "old"
    folder.mkdir()
    save(study.model_copy(update={"tracking": tracking}), folder)
    for command in (["resume", "old"], ["report", "old", "--to-mlflow"]):
        assert main(command) == ExitCode.BAD_CONFIG
        said = capsys.readouterr()
        assert "MLFLOW_TRACKING_PASSWORD" in said.err
        assert VALUE not in said.err + said.out
    main(["report", "old"])
    said = capsys.readouterr()
    assert "MLflow: open http://host:5000" in said.out
    assert VALUE not in said.err + said.out


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"engine": None},
        {"engine": {"vllm": None}},
        {"engine": {"vllm": {"env": None, "extra_args": 3}}},
        {"engine": ["vllm"], "power": {"sources": {"a": {"command": "ipmitool -P x"}}}},
        {"tracking": {"uri": 5}},
    ],
)
def test_any_shape_is_looked_through(data: dict[str, Any]) -> None:
    assert list(stored_secrets(data)) == []
