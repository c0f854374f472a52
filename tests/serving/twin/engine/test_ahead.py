"""Fast-forwarded steps equal the steps that would have been taken one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen import Closed, Poisson, Workload
from loadgen.control.virtual import run_virtual
from serving.twin.config import Power, TwinConfig
from serving.twin.engine.assemble import assemble
from serving.twin.engine.batch import SchedulerConfig
from serving.twin.engine.power import PowerModel, Work
from serving.twin.setup import Setup
from serving.twin.tables.library import Library
from tests.fuzz.examples import examples
from tests.serving.twin.emulations import GPU, emulation_of
from tuner.trial.simulate import TwinServer


@settings(max_examples=examples(40))
@given(
    scheduler=st.builds(
        SchedulerConfig,
        max_sequences=st.integers(1, 12),
        step_tokens=st.sampled_from([128, 1024]),
        mixed=st.booleans(),
        reserve=st.sampled_from(["none", "all", "estimate"]),
        receive_steps=st.sampled_from([1, 7]),
    ),
    blocks=st.sampled_from([30, 1000]),
    users=st.integers(1, 16),
    open_loop=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_fast_forward_gives_the_same_records_as_single_steps(
    scheduler: SchedulerConfig, blocks: int, users: int, open_loop: bool, seed: int
) -> None:
    arrival = Poisson(rate_per_s=(users / 2,)) if open_loop else Closed(concurrency=(users,))
    load = Workload(
        name="w",
        input_tokens={"kind": "ranged", "low": 10, "high": 100},
        output_tokens={"kind": "ranged", "low": 1, "high": 90},
        arrival=arrival,
        warmup_s=1,
        level_s=8,
        level_max_s=20,
        seed=seed,
    )
    found, servers = [], []
    for ahead in (True, False):
        emulation = emulation_of(scheduler, blocks=blocks, noise=0.05)
        server = TwinServer(emulation, ahead=ahead)
        servers.append(server)
        (level,) = run_virtual(server, load, vocabulary=1000).levels
        found.append((level, emulation.engines[0], sum(emulation.energy_j(emulation.now_s))))
    (first, engine, joules), (second, other, same_joules) = found
    assert len(first.records) == len(second.records)
    for name in ("due_ns", "sent_ns", "first_ns", "last_ns", "end_ns", "event_ns"):
        left, right = getattr(first.records, name), getattr(second.records, name)
        assert np.abs(left - right).max(initial=0) <= 20, name  # ns
    assert first.window == second.window
    assert engine.steps == other.steps
    assert engine.step_energy_j == pytest.approx(other.step_energy_j, rel=1e-9)
    assert joules == pytest.approx(same_joules, rel=1e-6)
    window = first.window
    energy = [
        each.trace(window.end_ns).increase(window.start_ns, window.end_ns) for each in servers
    ]
    assert sum(energy[0].values()) == pytest.approx(sum(energy[1].values()), rel=0.02)


def test_tables_time_many_decode_steps_like_single_ones() -> None:
    table = Library.shipped().table(Library.shipped().find("b300_sxm", "vllm", "llama-3.1-70b")[0])
    contexts = np.geomspace(1, 400_000, 200)
    for decodes in (1, 3, 64, 1000, 5000):
        one_by_one = [table.step_s(0, 0.0, decodes, each) for each in contexts]
        assert table.decode_steps_s(decodes, contexts) == pytest.approx(one_by_one, rel=1e-12)


@given(
    cap_w=st.sampled_from([1100.0, 800.0, 400.0]),
    flop=st.lists(st.floats(1e9, 1e16), min_size=3, max_size=3),
    read=st.lists(st.floats(1e9, 1e12), min_size=3, max_size=3),
)
def test_power_of_many_steps_equals_that_of_each(
    cap_w: float, flop: list[float], read: list[float]
) -> None:
    model = PowerModel(GPU, Power(cap_w=cap_w))
    each = [model.step(Work(f, r), 0.02) for f, r in zip(flop, read, strict=True)]
    seconds, watts = model.steps(np.array(flop), np.array(read), np.full(3, 0.02))
    assert seconds == pytest.approx([s for s, _ in each], rel=1e-9)
    assert watts == pytest.approx([w for _, w in each], rel=1e-9)


def test_a_long_output_takes_few_events() -> None:
    setup = Setup("vllm", "nvidia/Llama-3.1-8B-Instruct-FP8", "m", "h", 1, 8192, tensor=1)
    emulation = assemble(setup, TwinConfig(system="b300_sxm")).emulation
    load = Workload(
        name="w",
        input_tokens=10,
        output_tokens=2000,
        arrival=Closed(concurrency=(1,)),
        warmup_s=1,
        level_s=30,
    )
    events = 0
    advance = emulation.advance

    def counted():  # type: ignore[no-untyped-def]
        nonlocal events
        events += 1
        return advance()

    emulation.advance = counted  # type: ignore[method-assign]
    run_virtual(TwinServer(emulation), load, vocabulary=1000)
    assert events < emulation.engines[0].steps / 20
