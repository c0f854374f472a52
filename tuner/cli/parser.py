"""The command line: `wattfront`, or `python -m tuner`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from serving.errors import ServingError
from serving.process.environ import redacted
from tuner.cli import fleet, ledger, studies, twin
from tuner.cli.configured import completion, listing
from tuner.cli.exit_codes import ExitCode, Missing, exit_codes_text
from tuner.cli.machine.doctor import doctor
from tuner.cli.machine.engines import engines
from tuner.cli.machine.models import manage_models
from tuner.config.compose import INFO
from tuner.config.errors import ConfigError
from tuner.report.console import say

PROGRAM = "wattfront"
OVERRIDES = "Hydra overrides: experiment=laptop_vllm search.trials=20 engine.vllm.max_num_seqs=64 …"
BENCHED = "http://HOST:PORT of a server that runs already, and Hydra overrides as for tune"
CONFIG_DIR = "a folder of your own configuration files, beside conf/"
STUDY = "a study's folder, or its name under studies/"

Command = Callable[[argparse.Namespace], int]
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class _Version(argparse.Action):
    """Prints the version that is installed, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        try:
            found = version(PROGRAM)
        except PackageNotFoundError:
            found = "(not installed)"
        sys.stdout.write(f"{PROGRAM} {found}\n")
        parser.exit(ExitCode.DONE)


class _InstallCompletion(argparse.Action):
    """Writes the script of a shell, and ends."""

    def __call__(self, root: argparse.ArgumentParser, _: Any, shell: Any, *__: Any) -> None:
        try:
            path, left = completion.install(shell)
        except Missing as error:
            root.exit(ExitCode.MISSING, f"{PROGRAM}: {error}\n")
        sys.stdout.write(f"{path}\n{left}\n")
        root.exit(ExitCode.DONE)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`, the function that executes it."""
    root = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Finds the serving configurations on the Pareto front of speed, energy and cost.",
        epilog=f"example: wattfront tune experiment=laptop\n\nexit codes:\n{exit_codes_text()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    more = "complete commands, groups, options and keys by the tab key, and exit"
    install, shells = "--install-completion", completion.SHELLS
    root.add_argument(install, action=_InstallCompletion, choices=shells, help=more)
    to = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_studies(to)
    _add_results(to)
    _add_machine(to)
    return root


def _add_studies(to: Subparsers) -> None:
    example = "wattfront tune experiment=laptop search.trials=20"
    tune = _configured(_add(to, "tune", studies.tune, "run a study", example))
    tune.add_argument("--dry-run", action="store_true", help="print the plan and exit, like `plan`")
    text = "measure one configuration, or a server that runs already, at every load level"
    example = "wattfront bench http://127.0.0.1:8000"
    _configured(_add(to, "bench", studies.bench, text, example), BENCHED)
    text = "run a study of an emulated machine on a virtual clock: thousands of configurations"
    example = "wattfront simulate experiment=b300 search=qmc search.trials=2000"
    simulate = _configured(_add(to, "simulate", studies.simulate, text, example))
    workers = "number of processes; default: one per core"
    simulate.add_argument("--workers", type=_positive, help=workers)
    more = "mirror the ledger to MLflow at the end"
    simulate.add_argument("--to-mlflow", action="store_true", help=more)
    text = "show what a study would run, with placement, time and cost"
    _configured(_add(to, "plan", studies.plan, text, "wattfront plan experiment=b300_vllm"))
    text = "list the groups of the configuration, or the options of one"
    sub = _add(to, "list", listing.list_options, text, "wattfront list engine")
    sub.add_argument("group", nargs="?", metavar="GROUP", help="a group; default: all groups")
    sub.add_argument("--config-dir", "-cd", type=Path, help=CONFIG_DIR)


def _add_results(to: Subparsers) -> None:
    text = "print the tables and draw the plots of a study, from its ledger"
    sub = _add(to, "report", studies.report, text, "wattfront report studies/laptop-1")
    sub.add_argument("study", type=Path, metavar="STUDY", help=STUDY)
    more = "write to MLflow what it does not have yet"
    sub.add_argument("--to-mlflow", action="store_true", help=more)
    text = "plan how many replicas of which measured configuration serve a day's demand on a budget"
    example = "wattfront fleet studies/b300_energy-1 fleet.megawatts=20"
    sub = _add(to, "fleet", fleet.fleet, text, example)
    sub.add_argument("study", type=Path, metavar="STUDY", help=STUDY)
    sub.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of conf/fleet_plan.yaml")
    sub.add_argument("--config-dir", "-cd", type=Path, help=CONFIG_DIR)
    text = "continue a study that was stopped"
    sub = _add(to, "resume", studies.resume, text, "wattfront resume studies/laptop-1")
    sub.add_argument("study", type=Path, metavar="STUDY", help=STUDY)
    workers = "number of processes of a simulated study; default: as many as before"
    sub.add_argument("--workers", type=_positive, help=workers)
    text = "check a study's ledger line by line, and salvage a damaged one"
    sub = _add(to, "ledger", ledger.ledger, text, "wattfront ledger check studies/laptop-1")
    sub.add_argument("action", choices=["check"])
    sub.add_argument("study", type=Path, metavar="STUDY", help=STUDY)
    more = "write a new ledger of every line that is right; the original stays beside it"
    sub.add_argument("--repair", action="store_true", help=more)


def _add_machine(to: Subparsers) -> None:
    _add_engines(to)
    text = "list, fetch or verify models: those that need no hub account, and those of a hub"
    example = "wattfront models fetch Qwen/Qwen3-32B@main"
    sub = _add(to, "models", manage_models, text, example)
    sub.add_argument("action", choices=["fetch", "list", "verify"])
    more = "the model: a name of `models list`, or ORG/NAME[@REVISION] of a hub (HF_ENDPOINT, HF_TOKEN)"
    sub.add_argument("name", nargs="?", help=more)
    more = "branch, tag or commit of a model of a hub; default: its default branch"
    sub.add_argument("--revision", help=more)
    more = "of a model that needs no hub account; default: %(default)s"
    sub.add_argument("--format", choices=["gguf", "safetensors"], default="gguf", help=more)
    _add_twin(to)
    text, example = "check what this machine has and lacks for each engine", "wattfront doctor vllm"
    sub = _add(to, "doctor", doctor, text, example)
    sub.add_argument("engine", nargs="*", help="engines to check; default: all")
    more = "ask every node of the Ray cluster that runs, or of the one at this address"
    sub.add_argument("--nodes", nargs="?", const="", metavar="HOST:PORT", help=more)
    more = "a container image to look for in each container runtime; may be repeated"
    sub.add_argument("--image", action="append", default=[], help=more)


def _add_engines(to: Subparsers) -> None:
    text = "list, install or remove engine environments, or read the flags of a version from its source"
    example = "wattfront engines install vllm==0.32.0"
    sub = _add(to, "engines", engines, text, example)
    sub.add_argument("action", choices=["install", "list", "remove", "download", "schema"])
    more = (
        "NAME or NAME==VERSION of an environment, or the path of its wheel; for schema a wheel, a source "
        "tree, an engine's executable, or a container image that is here"
    )
    sub.add_argument("name", nargs="?", help=more)
    more = "install from this folder of wheels alone, without a network"
    sub.add_argument("--wheelhouse", type=Path, metavar="FOLDER", help=more)
    more = "download: the folder that gets the wheels and their lock"
    sub.add_argument("--to", type=Path, metavar="FOLDER", help=more)
    more = "download: for another platform, as wheels name it (manylinux_2_28_x86_64), repeatable"
    sub.add_argument("--platform", action="append", default=[], help=more)
    more = "download: for another Python, for example 3.12"
    sub.add_argument("--python", default="", metavar="VERSION", help=more)
    more = "the packages and their hashes, as in wattfront-lock.txt of an environment"
    sub.add_argument("--lock", metavar="FILE", help=more)
    more = "further arguments for pip, for example an index with CPU wheels"
    sub.add_argument("--pip-args", default="", help=more)


def _add_twin(to: Subparsers) -> None:
    text = "list or build step-time tables of emulated machines"
    sub = _add(to, "twin", twin.twin, text, "wattfront twin list --model deepseek-r1")
    sub.add_argument("action", choices=["list", "build"])
    sub.add_argument("--model", help="as `twin list` names them")
    sub.add_argument("--system", help="b300_sxm, b200_sxm or h200_sxm")
    sub.add_argument("--framework", choices=twin.FRAMEWORKS)
    weights = "precision of the weights, repeatable; default: all"
    sub.add_argument("--weights", action="append", help=weights)
    layout = "TP/DP/EP to build, repeatable"
    sub.add_argument("--layout", action="append", type=twin.layout, default=[], help=layout)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Overrides may stand before, between and after options, which argparse alone refuses."""
    root = parser()
    words = sys.argv[1:] if argv is None else argv
    if odd := [word for word in words if not _printable(word)]:
        root.error(f"an argument is not UTF-8 text: {odd[0]!r}")
    arguments, rest = root.parse_known_args(words)
    unknown = [word for word in rest if word.startswith("-") or "overrides" not in arguments]
    if unknown:
        root.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns its exit code; known errors are printed, one line for each cause."""
    arguments = parse(argv)
    errors = Console(stderr=True)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        say(errors, f"wattfront: {redacted(str(error))}", "red", whole=True)
        return ExitCode.BAD_CONFIG
    except (Missing, ServingError) as error:
        say(errors, f"wattfront: {redacted(str(error))}", "red", whole=True)
        return ExitCode.MISSING
    except BrokenPipeError:
        return ExitCode.DONE
    except OSError as error:  # a full disk, a folder that can't be written
        where = f"{error.filename}: " if error.filename else ""
        say(errors, f"wattfront: {where}{error.strerror or error}", "red", whole=True)
        return ExitCode.MISSING
    except KeyboardInterrupt:
        say(errors, "wattfront: interrupted", "yellow")
        return ExitCode.INTERRUPTED


def _printable(word: str) -> bool:
    """Bytes of an argument that are not UTF-8 arrive as halves of surrogate pairs."""
    return not any("\ud800" <= character <= "\udfff" or character == "\0" for character in word)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 99,999")
    return int(text)


def _add(
    to: Subparsers, name: str, run: Command, text: str, example: str
) -> argparse.ArgumentParser:
    sub = to.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(run=run)
    return sub


def _configured(sub: argparse.ArgumentParser, words: str = OVERRIDES) -> argparse.ArgumentParser:
    sub.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=words)
    several = "one study for each combination of a=1,2 b=x,y"
    sub.add_argument("--multirun", "-m", action="store_true", help=several)
    sub.add_argument("--config-dir", "-cd", type=Path, help=CONFIG_DIR)
    name = "a root configuration of your own in --config-dir, in place of conf/config.yaml"
    sub.add_argument("--config-name", "-cn", metavar="NAME", help=name)
    more = "print the composed configuration and exit"
    sub.add_argument("--cfg", "-c", choices=["job"], help=more)
    more = "with --cfg: interpolations as values"
    sub.add_argument("--resolve", action="store_true", help=more)
    more = "print how the configuration is composed, and exit"
    sub.add_argument("--info", "-i", nargs="?", const="all", choices=INFO, help=more)
    return sub
