"""Ledgers, study.yaml, recordings and data sets are anybody's: reading one runs nothing and obeys nothing."""

import ast
import json
from pathlib import Path

import pytest

from tests.modules import SOURCES, parsed
from tests.test_architecture import none_of
from tests.tuner.samples.study import sample_config, sample_study
from tuner.cli.exit_codes import ExitCode
from tuner.cli.parser import main
from tuner.config.load import load_saved, save
from tuner.results.ledger import LEDGER

# What builds objects, or runs code, from the bytes that it reads.
LOADERS = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads"),
    *("marshal.load", "marshal.loads", "shelve.open", "torch.load", "joblib.load"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
}
# What Tune saved about its own actor, in a private folder that this process made.
OURS = {("tuner.study.ray_tune", "pickle.loads")}


def test_nothing_is_built_from_what_is_read() -> None:
    found = []
    for module, path in SOURCES.items():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in LOADERS and (module, name) not in OURS:
                found.append(f"{module}:{node.lineno}: {name}")
            if any(
                key.arg == "allow_pickle" and ast.unparse(key.value) != "False"
                for key in node.keywords
            ):
                found.append(f"{module}:{node.lineno}: allow_pickle")
            if name.endswith("np.load") and "allow_pickle" not in {
                key.arg for key in node.keywords
            }:
                found.append(f"{module}:{node.lineno}: np.load without allow_pickle=False")
    none_of(found)


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.system ['touch RAN']", "!!python/object/new:os.system ['touch RAN']",
     "!!python/name:os.system", "!!python/module:os"],
)  # fmt: skip
def test_study_yaml_runs_nothing(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(f"name: {tag}\n")
    assert main(["report", str(tmp_path)]) == ExitCode.BAD_CONFIG
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "RAN").exists()


def test_study_yaml_reads_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a study of somebody else could have it uploaded."""
    monkeypatch.setenv("CANARY", "c4nary-v4lue")
    save(sample_config(), tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(path.read_text().replace("name: laptop-frameworks", "name: ${oc.env:CANARY}"))
    assert "c4nary" not in load_saved(tmp_path).name


def test_a_report_shows_escape_sequences_and_does_not_obey_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, hostile = sample_config(), "\x1b]0;owned\x07\x1b[2J[bold red]failed[/bold red]\x9b31m"
    save(config, tmp_path)
    sample_study(tmp_path, config)
    ledger = tmp_path / LEDGER
    text = ledger.read_text()
    assert "failed to allocate" in text
    ledger.write_text(text.replace("failed to allocate", json.dumps(hostile)[1:-1]))
    main(["report", str(tmp_path)])
    said = capsys.readouterr().out
    assert "\\x1b]0;owned\\x07\\x1b[2J" in said.replace("\n", "").replace(" ", "")
    assert not set(said) & set("\x1b\x07\x9b")
