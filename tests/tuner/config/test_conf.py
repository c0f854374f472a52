"""Every YAML in conf/ composes and is valid; each engine has its YAML."""

from pathlib import Path

import pytest

from loadgen.control.load_plan import next_load, plan_of
from loadgen.prompts.build import build
from loadgen.workload.workload import lockstep
from serving.engines import ENGINES
from tests.tuner.samples.loaded import load
from tuner.cli.fleet import load_fleet
from tuner.config.compose import compose, conf_dir
from tuner.config.resolve import default_points, trial_config
from tuner.metrics.sensitivity import inputs
from tuner.search.space import SearchSpace
from tuner.study.capacity import Capacity
from tuner.study.planning.estimate import estimate, known_trials
from tuner.trial.simulate import assumed, read_flags

CONF = conf_dir()
OPTIONS = sorted(
    path.relative_to(CONF).with_suffix("").as_posix()
    for path in CONF.glob("*/**/*.yaml")
    if path.parent.name != "fleet"  # no part of a study: `wattfront fleet` composes it
)
TRACE = Path(__file__).parents[2] / "loadgen" / "prompts" / "trace.jsonl"
# What an option needs besides itself.
NEEDS = {
    "workload/mooncake": [f"workload.dataset.path={TRACE}"],
    "engine/external": ["engine.external.url=http://127.0.0.1:8000"],
    "experiment/endpoint": ["engine.external.url=http://127.0.0.1:8000", "model.name=any"],
    "model/endpoint": ["model.name=any"],
    "topology/cpu": ["topology.cpus=4"],
    "space/llama33_70b_precision": ["model=llama33_70b", "topology=tp8", "hardware=b300"],
    "space/moe_layouts": ["model=deepseek_r1", "topology=tp8", "hardware=b300"],
    "space/sglang_moe_layouts": ["model=deepseek_r1_fp4", "topology=tp8", "hardware=b300"],
    **{
        f"objective/{name}": ["economics=b300_owned", "topology=tp8", "hardware=b300"]
        for name in ("revenue_per_megawatt", "margin_per_megawatt", "margin_per_device_hour")
    },
    **{f"objective/{name}": ["topology=tp8", "hardware=b300"] for name in ("cost", "per_megawatt")},
    "space/power_cap": ["model=llama33_70b", "topology=tp8", "hardware=b300_twin"],
}
GPU = ["topology=tp8", "hardware=b300"]
READY = [
    "engine=[vllm,sglang,trtllm]",
    "model=qwen3_235b_a22b",
    *GPU,
]  # for spaces in a folder of their own


def words(group: str, option: str) -> list[str]:
    """The option in the place of the laptop's, with what it needs."""
    base = [] if group == "experiment" else ["experiment=laptop"]
    more = READY if "/" in option else companions(group, option)
    return [*base, f"{group}={option}", *more]


def companions(group: str, option: str) -> list[str]:
    """The options of other groups that an option needs."""
    more = NEEDS.get(f"{group}/{option}", [])
    if group == "engine":
        return ["space=none", *more]
    if group == "space" and option != "none":
        drafts = option.startswith("speculation")
        more = GPU if drafts else more
        engine = "vllm" if more else option.removesuffix("_gpu")
        engine = "sglang" if option.startswith("sglang") else engine
        return [f"engine={engine}", *more, *(GPU if option.endswith("_gpu") else [])]
    if group == "hardware" and option not in ("laptop", "endpoint"):
        return ["topology=tp8"]
    if group == "topology" and option != "endpoint" and "cpu" not in option:
        layout = ["engine=vllm", "space=none"] if "ep" in option else []
        return ["hardware=b300", *layout]
    if group == "workload":
        return ["model=llama31_8b", *more]
    return more


@pytest.mark.thorough
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_loads(option: str) -> None:
    group, _, name = option.partition("/")
    study = load(words(group, name))
    if group == "experiment":
        assert study.name == name
    if group in ("workload", "tracking", "search", "cluster"):
        assert getattr(getattr(study, group), "name" if group == "workload" else "kind")


@pytest.mark.thorough
@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("workload/")])
def test_every_workload_can_be_sent(option: str) -> None:
    study = load(words(*option.split("/")))
    trial = trial_config(study, {})
    source = build(trial.workload, trial.model.vocabulary)
    asks = [source.first(number) for number in range(min(source.size or 50, 50))]
    assert all(ask.output_tokens > 0 and ask.prompt for ask in asks)
    load_ = next_load(trial.workload, [])
    assert load_ is not None
    assert len(plan_of(trial.workload, load_, 0).starts_ns)
    assert estimate(study, Capacity(((0, 2),)), known_trials(study)).wall_s.low > 0


def test_lengths_are_those_of_the_public_benchmark() -> None:
    """Even between 0.8 and 1 times the nominal length, both ends included."""
    study = load(words("workload", "inferencex_8k1k"))
    source = build(study.workload, study.model.vocabulary)
    asks = [source.first(number) for number in range(2000)]
    prompts = [ask.input_tokens or 0 for ask in asks]
    assert 6553 <= min(prompts) < 6600
    assert 8150 < max(prompts) <= 8192
    assert sum(prompts) / len(prompts) == pytest.approx(0.9 * 8192, rel=0.01)
    assert {min(a.output_tokens for a in asks), max(a.output_tokens for a in asks)} == {819, 1024}


def test_every_engine_has_its_yaml() -> None:
    kinds = {
        name: compose(words("engine", name))["engine"]
        for name in (path.stem for path in (CONF / "engine").glob("*.yaml"))
    }
    assert {engine["kind"] for named in kinds.values() for engine in named.values()} == set(ENGINES)
    for engines in kinds.values():
        for name, engine in engines.items():
            assert name == engine["kind"], "so that overrides read engine.KIND.knob"


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("experiment/")])
def test_every_point_of_an_experiment_is_a_trial(option: str) -> None:
    """Otherwise its constraints would allow points that can't start."""
    study = load(words("experiment", Path(option).name))
    points = list(SearchSpace.of(study).enumerate_points())
    assert points
    for point in points[:: max(len(points) // 50, 1)]:
        trial_config(study, point)


def test_constants_of_hardware_have_a_source_and_a_date() -> None:
    for path in (CONF / "hardware").glob("*.yaml"):
        if path.stem not in ("laptop", "endpoint"):
            hardware = load(words("hardware", path.stem)).hardware
            for constant in (hardware.kw_per_device, hardware.usd_per_device_hour):
                assert constant is not None
                assert constant.source
                assert constant.date.startswith("2026-")


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "fleet").glob("*.yaml")))
def test_every_fleet_loads(option: str) -> None:
    fleet = load_fleet([f"fleet={option}"])
    assert set(fleet.demand) <= set(load(words("slo", "interactive")).slo.tiers)
    assert all(each.usd_per_m_output_tok.source for each in fleet.demand.values())


def test_inputs_of_the_economics_have_a_source_and_a_date() -> None:
    for path in (CONF / "economics").glob("*.yaml"):
        for name, value in inputs(load([f"economics={path.stem}"]).economics).items():
            assert value.source, name
            assert value.date.startswith("202"), name


def test_conf_holds_only_data() -> None:
    assert not [path for path in CONF.rglob("*") if path.is_file() and path.suffix != ".yaml"]
    for path in CONF.rglob("*.yaml"):
        assert "_target_" not in path.read_text()


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("workload/")])
def test_no_ready_workload_puts_users_in_step(option: str) -> None:
    assert not lockstep(load(words(*option.split("/"))).workload)


def test_lengths_are_replaced_as_a_whole() -> None:
    fixed = load(["experiment=b300", "workload.output_tokens=64"])
    assert fixed.workload.output_tokens == 64
    assert lockstep(fixed.workload)
    other = load(["experiment=b300", "workload.output_tokens={kind: ranged, low: 8, high: 64}"])
    assert str(other.workload.output_tokens) == "8–64"


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("experiment/")])
def test_ready_experiments_rest_on_sound_step_times_and_repeat_their_best(option: str) -> None:
    """The default of each engine, as the twin would run it."""
    study = load(words(*option.split("/")))
    if study.hardware.twin is None:
        return
    assert study.search.confirm.candidates
    for point in default_points(study).values():
        trial = trial_config(study, point)
        setup = read_flags(trial, trial.topology).setup
        assert assumed(setup, study.hardware.twin)["known_wrong"] == []
