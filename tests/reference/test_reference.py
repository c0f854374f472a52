"""The reference is complete and fresh, and what the documentation names exists."""

import argparse
import ast
import re
import runpy
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from loadgen.cli.args import parser as loadgen_parser
from loadgen.http.response import Outcome, Response
from loadgen.results.records import Records, RequestRecord, to_parquet_bytes
from serving.telemetry import power_file
from serving.telemetry.base import Device, Reading
from serving.telemetry.trace import PowerTrace, device_trace
from tests.modules import ROOT, SOURCES, TESTS
from tests.reference import __main__ as reference
from tests.reference import commands, configuration, files, metrics
from tests.reference.ledger_lines import EXAMPLE
from tests.reference.markdown import slug
from tests.tuner.samples.loaded import load
from tuner.cli.endpoint import bench_words
from tuner.cli.exit_codes import MEANINGS, ExitCode
from tuner.cli.fleet import FleetRoot, load_fleet
from tuner.cli.parser import parse, parser
from tuner.config.compose import conf_dir, multirun, typed_in
from tuner.config.errors import ConfigError
from tuner.config.fields import field_at
from tuner.config.study import StudyConfig
from tuner.results.check import repair

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(ROOT / "docs").rglob("*.md"),
]
GENERATED = ROOT / reference.FOLDER
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PATH = re.compile(r"(?:tuner|serving|loadgen|conf|tests|docs)/[\w./*-]*")
MODULE = re.compile(r"python -m ((?:tuner|serving|loadgen|tests)[\w.]*)")
OVERRIDE = re.compile(r"\+?([a-z_]+(?:\.\w+)*)=(\S*)")
PLACEHOLDER = re.compile(r"\bNAME\b|\bSTUDY\b|…")
STUDIES = {"tune", "bench", "simulate", "plan"}  # commands whose overrides are a study's


def test_pages_are_fresh() -> None:
    found = reference.stale()
    if sys.version_info[:2] != commands.VERSION:
        found = [name for name in found if not name.endswith("commands.md")]
    none_of([f"{name} is stale: make reference" for name in found])


def test_everything_has_a_meaning() -> None:
    none_of([
        *(f"no description: {key}" for key in configuration.without_meaning()),
        *(f"no meaning: {name}" for name in metrics.without_meaning()),
        *files.problems(),
        *(f"exit code without a meaning: {c.name}" for c in ExitCode if c not in MEANINGS),
    ])  # fmt: skip
    assert commands.returned_by_loadgen() == commands.LOADGEN_CODES.keys()


def test_every_key_is_on_the_page() -> None:
    """In a row or a heading, under its own path or in the section of its type."""
    text = configuration.markdown()
    none_of([
        f"{row.path} is not on the page"
        for row in configuration.rows()
        if not any(
            mark in text
            for name in configuration.names(row)
            for mark in (f"| `{name}` |", f"## {name}\n", f"### `{name}=", f"**`{name}: ")
        )
    ])  # fmt: skip


def test_paths_in_the_documentation_exist() -> None:
    """Whole paths, names of modules, and bare names of Python files."""
    words = [(where, word) for where, code in inline() for word in code.split()]
    names = {path.name for path in (*SOURCES.values(), *TESTS.values())}
    missing = [
        f"{where}: there is no {word}"
        for where, word in words
        if (PATH.fullmatch(word) and not PLACEHOLDER.search(word) and not any(ROOT.glob(word)))
        or (re.fullmatch(r"\w+\.py", word) and word not in names)
    ]
    modules = [
        f"{where}: there is no module {name}"
        for where, line in [*inline(), *lines_of_code()]
        for name in MODULE.findall(line)
        if name not in SOURCES | TESTS
    ]
    none_of([*missing, *modules])


def test_links_lead_somewhere() -> None:
    findings = []
    for page in PAGES:
        for target in LINK.findall(FENCE.sub("", page.read_text())):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if "://" in target:
                continue
            if not there.exists():
                findings.append(f"{named(page)}: no {target}")
            elif anchor and anchor not in map(slug, HEADING.findall(there.read_text())):
                findings.append(f"{named(page)}: no heading for {target}")
    none_of(findings)


@pytest.mark.thorough
def test_commands_in_the_documentation_are_understood(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `wattfront` also their overrides, composed and validated as a study."""
    monkeypatch.chdir(ROOT)
    findings = []
    for where, line in [*lines_of_code(), *inline()]:
        words = words_of(line)
        program = Path(words[0]).name if words else ""
        if program == "make":
            wanted = {word for word in words[1:] if not PLACEHOLDER.search(word)}
            findings += [f"{where}: make has no {word}" for word in wanted - targets()]
        elif program == "wattfront" or words[1:3] == ["-m", "loadgen"]:
            own = program == "wattfront"
            problem = refused(words[1:]) if own else refused_by_loadgen(words[3:])
            findings += [f"{where}: {line}: {problem or capsys.readouterr().err}"] * (
                problem is not None
            )
    none_of(findings)


def test_overrides_in_the_text_name_what_exists() -> None:
    """`group=option` and `key=value` in running text."""
    overrides = [
        (where, *match.groups())
        for where, code in inline()
        for word in code.split()
        if (match := OVERRIDE.fullmatch(word))
    ]
    options = [
        f"{where}: there is no conf/{key}/{value}.yaml"
        for where, key, value in overrides
        if (conf_dir() / key).is_dir() and not PLACEHOLDER.search(value)
        if not (conf_dir() / key / f"{value}.yaml").is_file()
    ]
    keys = [
        f"{where}: there is no key {key}"
        for where, key, _ in overrides
        if "." in key and not known(key.split("."))
    ]
    none_of([*options, *keys])


def test_the_pandas_snippet_reads_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And imports nothing of ours."""
    study = shutil.copytree(EXAMPLE, tmp_path / "study")
    repair(study)  # a ledger of 0.1.0, written anew
    trial = study / "trials" / "000-x"
    trial.mkdir(parents=True)
    response = Response(Outcome.COMPLETED, 200, (30_000_000, 40_000_000), (1, 1), True, 5, 2)
    record = RequestRecord(0, 0, 10_000_000, 10_000_000, 40_000_000, response)
    (trial / "records.parquet").write_bytes(to_parquet_bytes(Records.of([record])))
    readings = [Reading(at, "GPU-0", power_w=watts) for at, watts in ((0, 300.0), (1, 500.0))]
    trace = PowerTrace("nvml", "instant", 1.0, (device_trace(Device("GPU-0", "gpu"), readings),))
    (trial / power_file.FILE).write_bytes(power_file.to_bytes([trace]))

    script = tmp_path / "snippet.py"
    script.write_text(files.SNIPPET.replace("studies/NAME", str(study)))
    made = runpy.run_path(str(script))

    imported = {
        name.name.partition(".")[0] if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(files.SNIPPET))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"json", "pathlib", "pandas"}
    assert len(made["points"]) > 5
    assert np.isfinite(made["points"]["ttft_p99_ms"]).all()
    assert made["ttft_ms"].tolist() == [20.0]
    assert "400.0" in capsys.readouterr().out


def none_of(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(dict.fromkeys(findings))


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def inline() -> list[tuple[str, str]]:
    """(page, code in backticks), blocks left out; of the generated pages nothing."""
    return [
        (named(page), code)
        for page in PAGES
        if GENERATED not in page.parents
        for code in INLINE.findall(FENCE.sub("", page.read_text()))
    ]


@cache
def lines_of_code() -> list[tuple[str, str]]:
    """(page, line) of the blocks of shell."""
    return [
        (named(page), line)
        for page in PAGES
        for language, block in FENCE.findall(page.read_text())
        if language == "sh"
        for line in block.replace("\\\n", " ").splitlines()
    ]


def words_of(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # an apostrophe: prose
        return []


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def refused(words: list[str]) -> str | None:
    """Why `wattfront` refuses these words: empty where argparse has printed it, None where it does not."""
    if not words or words[0].startswith("-") or words[0].isupper():
        return None
    if words[0] not in commands.subcommands(parser()):
        return "no such command"
    if len(words) == 1:
        return None  # names the command
    try:
        arguments = parse([word for word in words if not re.search(r"[…$]", word)])
    except SystemExit as end:
        return "" if end.code else None
    try:
        validate(arguments)
    except ConfigError as error:
        return str(error)
    return None


def validate(arguments: argparse.Namespace) -> None:
    """Composes what a command would compose. Raises ConfigError."""
    if arguments.command == "fleet":
        load_fleet(arguments.overrides)
    elif arguments.command in STUDIES:
        words = [word.replace("HOST:PORT", "a:1") for word in arguments.overrides if word != "URL"]
        url, given = bench_words(words)
        for job in multirun(given) if arguments.multirun else [given]:
            load([*job, *(["model.name=any"] if url and not typed_in(job, "model.name") else [])])


def refused_by_loadgen(words: list[str]) -> str | None:
    if not words:
        return None
    try:
        loadgen_parser().parse_args(words)
    except SystemExit as end:
        return "" if end.code else None
    return None


def known(path: list[str]) -> bool:
    return any(field_at(model, path) is not None for model in (StudyConfig, FleetRoot))
