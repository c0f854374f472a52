"""The map of the house and its guard: which room imports which, and where each vendor is imported."""

import ast
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.modules import ROOT, SOURCES, TESTS, imports, parsed, walk_at_run_time

# Per package, from the top down: a module imports from its own room and from rooms further down.
# A module belongs to the longest name that fits it.
ROOMS = {
    "tuner": (
        "__main__",
        "cli",
        "tracking",
        "report",
        "study",
        "analysis",
        "confirm",
        "search",
        "results",
        "trial",
        "config",
        "metrics",
        "config.groups",
        "metrics.catalogue",
    ),
    "serving": (
        "deployment",
        "launch",
        "twin.__main__",
        "twin.api",
        "twin.server",
        "twin.closed_form",
        "twin.frameworks",
        "twin.engine",
        "twin.tables",
        "install",
        "twin.setup",
        "twin.config",
        "twin.errors",
        "engines",
        "gpu",
        "telemetry",
        "process",
        "probe",
        "endpoint",
        "topology",
        "errors",
    ),
    "loadgen": (
        "__main__",
        "cli",
        "control",
        "worker",
        "results",
        "http",
        "prompts",
        "workload",
        "clock",
        "errors",
    ),
}
# What a package may import of the others.
KNOWS = {"tuner": {"loadgen", "serving"}, "serving": set[str](), "loadgen": set[str]()}
# Folders whose inside is private: whoever stands outside imports these modules of them.
PUBLIC = {"serving.twin": {"api", "config", "errors"}}

# Arithmetic in, arithmetic out: no process, file, socket or clock. Whole rooms, or single modules.
PURE = (
    "loadgen.control.arrival_times",
    "loadgen.control.ladder",
    "loadgen.control.live_stats",
    "loadgen.control.stopping",
    "loadgen.prompts.length_sampling",
    "loadgen.results.arrays",
    "loadgen.results.contradictions",
    "loadgen.results.doubts",
    "loadgen.results.metrics",
    "loadgen.results.precision",
    "loadgen.results.stats",
    "loadgen.results.steady_state",
    "loadgen.worker.dispatch_policy",
    "loadgen.worker.request_queue",
    "loadgen.worker.virtual_dispatcher",
    "loadgen.workload.arrivals",
    "loadgen.workload.lengths",
    "serving.telemetry.base",
    "serving.telemetry.engine_metrics",
    "serving.telemetry.trace",
    "serving.telemetry.validity",
    "serving.twin.closed_form",
    "serving.twin.tables.steptime",
    "tuner.analysis",
    "tuner.config.errors",
    "tuner.config.checks.numerics",
    "tuner.config.fields",
    "tuner.config.groups",
    "tuner.config.resolve",
    "tuner.config.study",
    "tuner.config.trial",
    "tuner.config.upgrade",
    "tuner.config.validate",
    "tuner.confirm.candidates",
    "tuner.confirm.group_sequential",
    "tuner.confirm.race",
    "tuner.confirm.ranking",
    "tuner.confirm.repeat",
    "tuner.confirm.results",
    "tuner.confirm.rounds",
    "tuner.metrics",
    "tuner.trial.quality.comparison",
    "tuner.trial.quality.prompts",
    "tuner.trial.quality.verdict",
    "tuner.report.plots.pareto_data",
    "tuner.report.points",
    "tuner.report.rough",
    "tuner.results.pareto",
    "tuner.results.tiers",
    "tuner.search.curve.acquisition",
    "tuner.search.curve.encoding",
    "tuner.search.curve.gp",
    "tuner.search.curve.initial_design",
    "tuner.search.curve.kernel",
    "tuner.search.curve.model_average",
    "tuner.search.curve.prior",
    "tuner.search.curve.subset",
    "tuner.search.even_points",
    "tuner.search.priors.roofline",
    "tuner.search.pruning_baseline",
    "tuner.search.space",
    "tuner.search.stopping",
    "tuner.study.learning.budget",
    "tuner.study.capacity",
    "tuner.study.planning.draws",
    "tuner.study.planning.estimate",
    "tuner.study.planning.ladder",
    "tuner.study.planning.merit",
    "tuner.study.planning.speed",
    "tuner.tracking.quality_figures",
    "tuner.tracking.runs",
    "tuner.trial.bottleneck",
    "tuner.trial.duration",
    "tuner.trial.pruner",
)
IMPURE = {"os", "socket", "subprocess", "threading", "time", "pathlib", "shutil", "signal", "rich"}

VENDORS = {
    "hydra": {"tuner.config.compose", "tuner.config.own_files"},
    "omegaconf": {"tuner.config.compose", "tuner.config.own_files"},
    "optuna": {"tuner.search.optuna_samplers"},
    "sklearn": {"tuner.search.curve.feasibility"},
    "threadpoolctl": {"tuner.search.curve.blas"},
    "mlflow": {"tuner.tracking.mlflow"},
    "plotly": {"tuner.report.plots"},
    "matplotlib": {"tuner.report.plots"},
    "pyarrow": {
        "loadgen.results.records",
        "serving.telemetry.engine_file",
        "serving.telemetry.power_file",
    },
    "uvloop": {"loadgen.worker.process", "serving.twin.server.server"},
    "tokenizers": {"loadgen.prompts.encoding"},
    "pynvml": {"serving.telemetry.nvml"},
    "aiconfigurator_core": {"serving.twin.tables.kernel_database"},
    "xllamacpp": {"serving.engines.llama_server"},
    # Ray is the ground that trials stand on: Serve below, Tune above, the load's workers beside.
    "ray": {
        "loadgen.worker.ray_link",
        "serving.deployment",
        "tuner.study.joining",
        "tuner.study.local_cluster",
        "tuner.study.ray_cluster",
        "tuner.study.ray_tune",
        "tuner.study.slots",
    },
    # Engines are command lines. What converts a model runs in an engine's own environment.
    "vllm": set(),
    "sglang": set(),
    "tensorrt_llm": set(),
    "torch": {"serving.install.convert_gguf"},
    "transformers": {"serving.install.convert_gguf"},
}
# Imported late, so that `--help` answers at once.
HEAVY = {"hydra", "omegaconf", "optuna", "mlflow", "plotly", "matplotlib", "ray", "sklearn"}
EMPTY_NAMES = {"util", "utils", "common", "helper", "helpers", "misc", "types", "base_utils"}
LINES, TEST_LINES, FUNCTION_LINES, ENTRIES = 320, 400, 60, 12


def none_of(findings: Sequence[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


@cache
def ours(module: str) -> frozenset[str]:
    """The modules of this project that a module imports when it runs."""
    found = imports(walk_at_run_time(parsed(SOURCES[module])))
    return frozenset((found & SOURCES.keys()) - {module})


def vendors(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports(ast.walk(parsed(path)))}


def inside(module: str, places: Sequence[str] | set[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def floor(module: str) -> int | None:
    """The place of a module's room in its package's list; None where no room fits."""
    package, _, rest = module.partition(".")
    fits = [room for room in ROOMS[package] if inside(rest, (room,))]
    return ROOMS[package].index(max(fits, key=len)) if fits else None


def test_packages_know_only_those_they_may() -> None:
    none_of([
        f"{module} imports {other}"
        for module in SOURCES
        for other in sorted(imports(ast.walk(parsed(SOURCES[module]))))
        if (package := module.partition(".")[0]) != (theirs := other.partition(".")[0])
        and (theirs in {*ROOMS, "tests", "conf"} or other.startswith("."))
        and theirs not in KNOWS[package]
    ])  # fmt: skip


def test_modules_import_downwards() -> None:
    faces = {f"{package}.{room}".rsplit(".", 1)[0] for package in ROOMS for room in ROOMS[package]}
    homeless = [m for m in SOURCES if floor(m) is None and m not in faces]
    none_of([f"{module} is in no room: say in ROOMS where it belongs" for module in homeless])
    none_of([
        f"{module} imports {other}, which is in a higher room"
        for module in SOURCES
        if (own := floor(module)) is not None
        for other in sorted(ours(module))
        if other.partition(".")[0] == module.partition(".")[0]
        and (above := floor(other)) is not None
        and above < own
    ])  # fmt: skip


def test_private_rooms_are_imported_through_their_public_modules() -> None:
    none_of([
        f"{module} imports {other}: of {folder} only {', '.join(sorted(names))} are public"
        for folder, names in PUBLIC.items()
        for module in SOURCES
        if not inside(module, (folder,))
        for other in sorted(imports(ast.walk(parsed(SOURCES[module]))))
        if inside(other, (folder,)) and other not in {f"{folder}.{name}" for name in names}
    ])  # fmt: skip


def test_every_room_exists() -> None:
    none_of([
        f"ROOMS: there is no {package}.{room}"
        for package, rooms in ROOMS.items()
        for room in rooms
        if not any(inside(module, (f"{package}.{room}",)) for module in SOURCES)
    ])  # fmt: skip
    places = {*PURE, *(place for allowed in VENDORS.values() for place in allowed)}
    gone = sorted(p for p in places if not any(inside(m, (p,)) for m in SOURCES))
    none_of([f"PURE or VENDORS: there is no {place}" for place in gone])


def test_no_cycle() -> None:
    graph = {m: ours(m) for m, path in SOURCES.items() if path.name != "__init__.py"}
    tuple(TopologicalSorter(graph).static_order())


def test_each_vendor_has_its_place() -> None:
    none_of([
        f"{module} imports {vendor}, which belongs in {', '.join(VENDORS[vendor]) or 'no file'}"
        for module, path in SOURCES.items()
        for vendor in sorted(vendors(path) & VENDORS.keys())
        if not inside(module, VENDORS[vendor])
    ])  # fmt: skip


def test_the_command_line_starts_without_the_heavy_vendors() -> None:
    """Nothing that is imported at the top of a module leads from the command line to one of them."""
    at_top = {
        module: imports(n for n in parsed(path).body if isinstance(n, ast.Import | ast.ImportFrom))
        for module, path in SOURCES.items()
    }
    reached, waiting, findings = set[str](), {"tuner.cli.parser"}, list[str]()
    while waiting:
        module = waiting.pop()
        reached.add(module)
        heavy = {name.partition(".")[0] for name in at_top[module]} & HEAVY
        findings += [f"{module} imports {name} at its top" for name in sorted(heavy)]
        waiting |= (at_top[module] & SOURCES.keys()) - reached
    none_of(findings)


def test_arithmetic_is_pure() -> None:
    none_of([
        f"{module} is pure, and imports {name}"
        for module, path in SOURCES.items()
        if inside(module, PURE)
        for name in sorted(vendors(path) & (IMPURE | VENDORS.keys()))
    ])  # fmt: skip


def test_files_and_functions_are_short() -> None:
    findings = []
    for module, path in (SOURCES | TESTS).items():
        length = len(path.read_text().splitlines())
        if length > (TEST_LINES if module in TESTS else LINES):
            findings.append(f"{module} has {length} lines")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > FUNCTION_LINES:
                    findings.append(f"{module}:{node.lineno} {node.name} has {size} lines")
    none_of(findings)


def test_folders_are_small() -> None:
    """At most so many entries, the package's own `__init__.py` left out."""
    entries = defaultdict[Path, set[str]](set)
    for path in (*SOURCES.values(), *TESTS.values()):
        for inner in (path, *path.parents):
            if inner == ROOT:
                break
            if inner.name != "__init__.py":
                entries[inner.parent].add(inner.name)
    none_of([
        f"{folder.relative_to(ROOT)} has {len(names)} entries"
        for folder, names in sorted(entries.items())
        if len(names) > ENTRIES and folder != ROOT
    ])  # fmt: skip


def test_names_say_one_thing() -> None:
    """No file is called after nothing; in a package a class name stands for one class."""
    findings = [f"{m}: an empty name" for m in SOURCES | TESTS if m.split(".")[-1] in EMPTY_NAMES]
    homes = defaultdict[tuple[str, str], list[str]](list)
    for module, path in SOURCES.items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                homes[module.partition(".")[0], node.name].append(module)
    findings += [f"{n}: in {', '.join(of)}" for (_, n), of in homes.items() if len(of) > 1]
    none_of(findings)


def test_no_blind_except_and_no_eval() -> None:
    findings = []
    for module, path in SOURCES.items():
        lines = path.read_text().splitlines()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler):
                names = ast.walk(node.type) if node.type else ()
                caught = {name.id for name in names if isinstance(name, ast.Name)}
                # Some libraries raise nothing narrower: the reason stands beside it.
                reason = "# noqa: BLE001  (" in lines[node.lineno - 1]
                blind = node.type is None or caught & {"Exception", "BaseException"}
                passes_on = any(
                    isinstance(each, ast.Raise) and each.exc is None for each in ast.walk(node)
                )
                findings += (
                    [f"{module}:{node.lineno}: blind except"]
                    if blind and not (reason or passes_on)
                    else []
                )
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                evaluated = node.func.id in {"eval", "exec"}
                findings += [f"{module}:{node.lineno}: {node.func.id}"] if evaluated else []
    none_of(findings)
