"""The map of the house, and its guard: who may import whom, and which vendor goes where."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("loadgen", "serving", "tuner")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# Package → what of this house it may import.
MAY_IMPORT = {
    "loadgen": {"loadgen"},
    "serving": {"serving"},
    "tuner": {"tuner", "loadgen", "serving"},
}

# From the top down: a module imports from lower layers, or from its own.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"commands", "machine", "twins", "fleets"},
    {
        "plan",
        "display",
        "slots",
        "simulate",
        "study",
        "regression",
        "report",
        "economy_report",
        "export",
    },
    {"confirmer", "confirm_report", "payback_report", "explain_report", "prediction_report"},
    {"config", "compose", "judge"},
    {"explained"},
    {"belief"},
    {"curves", "foretold"},
    {"priors"},
    {"study_config"},
    {"tracking"},
    {"mirror"},
    {"confirm_runs"},
    {"runs", "plots", "zone_plot", "day_plot", "point_table", "payback", "recommended"},
    {"confirmed"},
    {"picture", "confirmation"},
    {"contenders", "spent", "affordable", "predictions"},
    {"search", "cluster", "ledger", "complaint", "repeats"},
    {"durations", "roofline"},
    {"goldilocks", "fleet", "fleet_config", "incumbents", "predict"},
    {"explain"},
    {"objective", "pareto", "space", "virtual_trial"},
    {"winner"},
    {"racing"},
    {"trial"},
    {"metering", "looks"},
    {
        "hurdle",
        "screening",
        "spending",
        "economics",
        "energy",
        "pricing",
        "boundaries",
        "constants",
        "sensitivity",
    },
)

# Arithmetic in, arithmetic out: no process, file, socket or clock.
PURE = {
    "loadgen.workload.arrivals",
    "loadgen.prompts.length_sampling",
    "loadgen.control.ladder",
    "loadgen.workload.lengths",
    "loadgen.results.metrics",
    "loadgen.results.precision",
    "loadgen.results.arrays",
    "loadgen.control.arrival_times",
    "loadgen.results.stats",
    "loadgen.results.steady_state",
    "loadgen.control.stopping",
    "serving.telemetry.base",
    "serving.telemetry.trace",
    "serving.telemetry.validity",
    "serving.twin.closed_form.pace",
    "serving.twin.tables.steptime",
    "tuner.study.affordable",
    "tuner.analysis.surrogate",
    "tuner.metrics.efficiency",
    "tuner.tracking.confirm_runs",
    "tuner.confirm.rounds",
    "tuner.confirm.results",
    "tuner.config.errors",
    "tuner.config.groups.hardware",
    "tuner.confirm.candidates",
    "tuner.metrics.derive",
    "tuner.metrics.energy",
    "tuner.analysis.importance",
    "tuner.analysis.knob_effects",
    "tuner.analysis.fleet",
    "tuner.config.groups.fleet",
    "tuner.analysis.goldilocks",
    "tuner.trial.pruner",
    "tuner.search.pruning_baseline",
    "tuner.config.validate",
    "tuner.trial.looks",
    "tuner.results.tiers",
    "tuner.results.pareto",
    "tuner.analysis.payback",
    "tuner.report.plots.pareto_data",
    "tuner.report.points",
    "tuner.analysis.prediction_error",
    "tuner.metrics.earnings",
    "tuner.confirm.race",
    "tuner.analysis.recommendation",
    "tuner.confirm.repeat",
    "tuner.metrics.sensitivity",
    "tuner.config.groups.budget",
    "tuner.search.curve.model_average",
    "tuner.search.curve.initial_design",
    "tuner.search.curve.encoding",
    "tuner.search.curve.acquisition",
    "tuner.search.curve.kernel",
    "tuner.search.curve.prior",
    "tuner.search.curve.gp",
    "tuner.trial.duration",
    "tuner.search.priors.roofline",
    "tuner.search.space",
    "tuner.confirm.group_sequential",
    "tuner.study.budget",
    "tuner.config.study",
    "tuner.confirm.ranking",
}
IMPURE = {"os", "socket", "subprocess", "threading", "time", "pathlib", "shutil", "signal", "rich"}

VENDORS = {
    "hydra": {"tuner/config/compose.py"},
    "omegaconf": {"tuner/config/compose.py"},
    "optuna": {"tuner/search/optuna_samplers.py"},
    "sklearn": {"tuner/search/curve/feasibility.py"},
    "mlflow": {"tuner/tracking/mlflow.py"},
    "plotly": {"tuner/report/plots/pareto.py"},
    "matplotlib": {
        "tuner/report/plots/pareto.py",
        "tuner/report/plots/zone.py",
        "tuner/report/plots/fleet_day.py",
    },
    "pyarrow": {"loadgen/results/records.py", "serving/telemetry/power_file.py"},
    "uvloop": {"loadgen/worker/process.py", "serving/twin/server/server.py"},
    "tokenizers": {"loadgen/prompts/encoding.py"},
    "pynvml": {"serving/telemetry/nvml.py"},
    "aiconfigurator_core": {"serving/twin/tables/oracle.py"},
    "xllamacpp": {"serving/engines/llama_server.py"},
    # Ray is the ground that trials stand on: Serve below, Tune above, the load's shards beside.
    "ray": {
        "loadgen/worker/ray_link.py",
        "serving/deployment.py",
        "tuner/study/ray_cluster.py",
        "tuner/study/ray_tune.py",
    },
}
# Engines are command lines. What converts a model runs in an engine's own environment.
FRAMEWORKS = {"vllm", "sglang", "tensorrt_llm", "torch", "transformers"}
OUTSIDE = {"serving/install/convert_gguf.py"}
HEAVY = {
    "hydra",
    "omegaconf",
    "optuna",
    "mlflow",
    "plotly",
    "matplotlib",
    "ray",
    "sklearn",
}  # imported late
EMPTY_NAMES = {"util", "utils", "common", "helper", "helpers", "misc", "types", "base_utils"}
LINES, TEST_LINES, FUNCTION_LINES = 320, 400, 60


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import; `from a import b` names a.b where that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield whole if whole in MODULES else module


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def at_run_time(tree: ast.Module) -> ast.Module:
    """Without what only the type checker imports."""

    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST:
            only_types = "TYPE_CHECKING" in ast.unparse(node.test)
            return ast.Module([], []) if only_types else self.generic_visit(node)

    stripped = Strip().visit(tree)
    assert isinstance(stripped, ast.Module)
    return stripped


def ours(path: Path) -> set[str]:
    found = {module for module in imports(at_run_time(parsed(path))) if module in MODULES}
    return found - {name_of(path)}


def tops(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports(parsed(path))}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_packages_are_strangers_where_they_should_be(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert {module.partition(".")[0] for module in ours(path)} <= MAY_IMPORT[package]
    assert not {"tests", "conf"} & tops(path)


def layer(module: str) -> int:
    name = module.split(".")[1]
    found = [i for i, names in enumerate(LAYERS) if name in names]
    assert found, f"{module} is in no layer: say in LAYERS where it belongs"
    return found[0]


@pytest.mark.parametrize("path", sorted((ROOT / "tuner").glob("[!_]*.py")), ids=relative)
def test_tuner_imports_downwards(path: Path) -> None:
    own = layer(name_of(path))
    above = {m for m in ours(path) if m.startswith("tuner.") and layer(m) < own}
    assert not above


def test_no_cycle() -> None:
    graph = {name_of(path): ours(path) for path in FILES if path.name != "__init__.py"}
    tuple(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_each_vendor_has_its_place(path: Path) -> None:
    for vendor in tops(path) & VENDORS.keys():
        assert relative(path) in VENDORS[vendor], f"{vendor} belongs in {VENDORS[vendor]}"
    assert relative(path) in OUTSIDE or not tops(path) & FRAMEWORKS


def test_the_command_line_starts_without_the_heavy_vendors() -> None:
    """So that `--help` answers in a moment: nothing that is imported at the top leads to them."""
    at_top = {name_of(path): set(imports(top_of(path))) for path in FILES}
    reached, waiting = set[str](), ["tuner.cli.parser"]
    while waiting:
        module = waiting.pop()
        reached.add(module)
        heavy = {name.partition(".")[0] for name in at_top[module]} & HEAVY
        assert not heavy, f"{module} imports {heavy} at its top"
        waiting += (at_top[module] & MODULES) - reached


def top_of(path: Path) -> ast.Module:
    body = at_run_time(parsed(path)).body
    return ast.Module([n for n in body if isinstance(n, ast.Import | ast.ImportFrom)], [])


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p) in PURE], ids=relative)
def test_arithmetic_is_pure(path: Path) -> None:
    assert not tops(path) & IMPURE
    assert not tops(path) & VENDORS.keys()


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=relative)
def test_names_and_lengths(path: Path) -> None:
    assert path.stem not in EMPTY_NAMES
    limit = TEST_LINES if path in TESTS else LINES
    assert len(path.read_text().splitlines()) <= limit
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_blind_except_and_no_eval(path: Path) -> None:
    lines = path.read_text().splitlines()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
            caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
            # Some libraries raise nothing narrower: the reason stands beside it.
            reason = "# noqa: BLE001  (" in lines[node.lineno - 1]
            assert reason or not caught & {"Exception", "BaseException"}, f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    empty = path.name == "__init__.py" and not path.read_text().strip()
    assert empty or ast.get_docstring(parsed(path))
