"""What every engine adapter must do, whichever engine it is: run over all of `ENGINES`."""

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from serving.engines import ENGINES, BaseEngine, Engine, Launch
from serving.errors import EngineExited
from serving.topology import Topology

LAUNCH = Launch(
    executable="/opt/engine",
    model_path="/models/one",
    served_model="one",
    host="127.0.0.1",
    port=12345,
    topology=Topology(),
    context_tokens=2048,
    devices=("GPU-1",),
)
REQUIRED: dict[str, dict[str, Any]] = {"external": {"url": "http://127.0.0.1:1"}}
# What only says of what version an engine is: its flags are checked by it.
SAID = ("inside", "inside_version")
LOCAL = [name for name in ENGINES if name != "external"]


def build(name: str, **knobs: Any) -> BaseEngine:
    data = {"kind": name, **REQUIRED.get(name, {}), **knobs}
    engine: BaseEngine = TypeAdapter(Engine).validate_python(data)
    return engine


def knobs(name: str) -> Iterator[tuple[str, Any]]:
    """Every knob that an adapter declares, with a value that its type takes."""
    candidates = [1, 2, 0.5, True, "auto", "on", "f16", "pytorch", ("--x",), "half"]
    candidates += [{"method": "mtp"}, {"max_batch_size": 4}, {"dtype": "fp8"}]
    candidates += [{"cudagraph_max_size": 8}, {"role": "prefill"}]
    candidates += [{"role": "prefill", "connector": "NixlConnector"}]
    for field in ENGINES[name].model_fields:
        if field in BaseEngine.model_fields or field in ("kind", "url", *SAID):
            continue
        for value in [False] if field == "async_scheduling" else candidates:  # true as by default
            try:
                build(name, **{field: value})
            except ValidationError:
                continue
            yield field, value
            break
        else:
            raise AssertionError(f"no value tried fits {name}.{field}")


def built(engine: BaseEngine) -> tuple[list[str], dict[str, str]]:
    return engine.command(LAUNCH), engine.environ(LAUNCH)


KNOBS = [(name, field, value) for name in LOCAL for field, value in knobs(name)]


class EngineSuite:
    @pytest.mark.parametrize("name", ENGINES)
    def test_it_is_found_by_its_kind_and_survives_json(self, name: str) -> None:
        engine = build(name)
        assert type(engine) is ENGINES[name]
        assert TypeAdapter(Engine).validate_json(engine.model_dump_json()) == engine

    @pytest.mark.parametrize("name", ENGINES)
    def test_a_mistyped_knob_is_refused_with_its_name(self, name: str) -> None:
        with pytest.raises(ValidationError, match="max_num_seqz"):
            build(name, max_num_seqz=8)

    @pytest.mark.parametrize("name", ENGINES)
    def test_it_can_not_be_changed(self, name: str) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            build(name).start_timeout_s = 1.0  # type: ignore[misc]

    @pytest.mark.parametrize("name", LOCAL)
    def test_it_is_given_port_model_and_context(self, name: str) -> None:
        argv, environ = built(build(name))
        everything = [*argv, *environ.values()]
        assert argv[0] == LAUNCH.executable
        for needed in ("12345", "one", "/models/one", "2048"):
            assert needed in everything, needed

    @pytest.mark.parametrize("name", LOCAL)
    def test_it_sees_its_own_devices_only(self, name: str) -> None:
        assert build(name).environ(LAUNCH)["CUDA_VISIBLE_DEVICES"] == "GPU-1"

    @pytest.mark.parametrize("name", LOCAL)
    def test_env_and_extra_args_of_the_user_override(self, name: str) -> None:
        engine = build(name, env={"CUDA_VISIBLE_DEVICES": "7"}, extra_args=("--theirs", "1"))
        argv, environ = built(engine)
        assert argv[-2:] == ["--theirs", "1"]
        assert environ["CUDA_VISIBLE_DEVICES"] == "7"

    @pytest.mark.parametrize(("name", "field", "value"), KNOBS)
    def test_every_knob_changes_the_command_or_environment(
        self, name: str, field: str, value: Any
    ) -> None:
        plain, turned = build(name), build(name, **{field: value})
        launch = LAUNCH
        if field in ("cpu_kvcache_space_gib", "omp_threads"):
            launch = Launch("x", "m", "one", "h", 1, Topology(cpus=8), 64)
        before = (plain.command(launch), plain.environ(launch))
        assert (turned.command(launch), turned.environ(launch)) != before

    @pytest.mark.parametrize("name", LOCAL)
    def test_arguments_and_variables_are_text(self, name: str) -> None:
        every = dict(knobs(name))
        for whole in ("extra_llm_api_options", "speculative_config", "compilation_config"):
            every.pop(whole, None)  # in place of the knobs for its keys
        argv, environ = built(build(name, **every))
        assert all(isinstance(part, str) for part in (*argv, *environ, *environ.values()))
        assert "None" not in argv
        json.dumps([argv, environ])

    @pytest.mark.parametrize("name", ENGINES)
    def test_an_exit_with_an_empty_log_is_reported(self, name: str) -> None:
        error = build(name).diagnose(3, "")
        assert type(error) is EngineExited
        assert "3" in error.evidence

    @pytest.mark.parametrize("name", ENGINES)
    def test_evidence_is_one_line_of_the_log(self, name: str) -> None:
        log = "INFO fine\nERROR something broke\nINFO bye\n"
        assert build(name).diagnose(1, log).evidence.endswith("ERROR something broke")

    def test_the_registry_is_the_union(self) -> None:
        union, _ = get_args(Engine)
        assert set(get_args(union)) == set(ENGINES.values())
        assert {name: engine.model_fields["kind"].default for name, engine in ENGINES.items()} == {
            name: name for name in ENGINES
        }
