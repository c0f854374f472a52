"""The twin in place of a real engine: launched, supervised, metered and stopped by the same code."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.engines import SgLang, TrtLlm, Vllm
from serving.engines.base import BaseEngine
from serving.errors import BadFlags, OutOfMemory, ServingError
from serving.launch import LaunchSpec, launched, shell_command
from serving.telemetry.sources.twin import LATE, STEPS, lateness_reader, opened
from serving.topology import Model, Topology
from serving.twin.config import TwinConfig

pytestmark = pytest.mark.process

MODEL = Model(
    name="served", source="meta-llama/Llama-3.1-8B-Instruct", context_tokens=4096, vocabulary=128256
)
B300 = TwinConfig(system="b300_sxm")


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., LaunchSpec]:
    def make(
        engine: BaseEngine,
        *,
        model: Model = MODEL,
        tensor: int = 2,
        twin: TwinConfig = B300,
    ) -> LaunchSpec:
        topology = Topology(tensor_parallel=tensor)
        return LaunchSpec(engine, model, topology, tmp_path / "engine.log", twin)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("engine", [Vllm(), SgLang(), TrtLlm()], ids=lambda each: each.kind)
def test_each_framework_starts_answers_and_reports_its_energy(
    engine: BaseEngine, spec: Callable[..., LaunchSpec]
) -> None:
    with (
        launched(spec(engine), devices=("0", "1")) as running,
        opened(running.endpoint.base_url) as power,
    ):
        endpoint = running.endpoint
        late = lateness_reader(endpoint.base_url)
        before = {each.device: each for each in power.read()}
        body = {"model": "served", "prompt": list(range(100)), "max_tokens": 20}
        request = urllib.request.Request(
            f"{endpoint.base_url}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            answer = json.load(response)
        after, steps = power.read(), late()
        running.check()
    assert answer["usage"]["prompt_tokens"] == 100
    assert answer["usage"]["completion_tokens"] == 20
    assert endpoint.modelled is not None
    assert "aiconfigurator" in endpoint.modelled
    assert endpoint.engine_version is not None
    assert "-m serving.twin --system b300_sxm -- " in shell_command(endpoint)
    assert len(after) == 2
    for now in after:
        then = before[now.device]
        assert now.energy_j is not None
        assert then.energy_j is not None
        seconds = (now.at_ns - then.at_ns) / 1e9
        assert 100 * seconds < now.energy_j - then.energy_j < 1100 * seconds
    assert steps is not None
    assert steps.values[STEPS] >= 20
    assert 0 <= steps.values[LATE] <= steps.values[STEPS]


@pytest.mark.parametrize("engine", [Vllm(), SgLang(), TrtLlm()], ids=lambda each: each.kind)
def test_a_model_too_large_is_out_of_memory(
    engine: BaseEngine, spec: Callable[..., LaunchSpec]
) -> None:
    large = MODEL.model_copy(update={"source": "deepseek-ai/DeepSeek-R1"})
    made = spec(engine, model=large, tensor=1, twin=TwinConfig(system="h200_sxm"))
    with pytest.raises(OutOfMemory), launched(made, devices=("0",)):
        pass


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (Vllm(max_num_seqs=512, max_num_batched_tokens=256), BadFlags),
        (Vllm(extra_args=("--no-such-flag",)), BadFlags),
        (SgLang(extra_args=("--no-such-flag",)), BadFlags),
        (TrtLlm(extra_args=("--no-such-flag",)), BadFlags),
        (Vllm(gpu_memory_utilization=0.02), OutOfMemory),
    ],
)
def test_what_the_engine_would_reject_is_rejected(
    engine: BaseEngine, expected: type[ServingError], spec: Callable[..., LaunchSpec]
) -> None:
    with pytest.raises(expected), launched(spec(engine), devices=("0", "1")):
        pass


def test_options_are_written_beside_the_log_for_their_owner_alone(
    spec: Callable[..., LaunchSpec], tmp_path: Path
) -> None:
    """Only their contents are in the command that is shown."""
    engine = TrtLlm.model_validate({"cuda_graph_config": {"max_batch_size": 64}})
    with launched(spec(engine), devices=("0", "1")) as running:
        command = shell_command(running.endpoint)
    assert """--config <(echo '{"cuda_graph_config": {"max_batch_size": 64}}')""" in command
    written = tmp_path / "engine-options.yaml"
    assert json.loads(written.read_text()) == {"cuda_graph_config": {"max_batch_size": 64}}
    assert written.stat().st_mode & 0o777 == 0o600
