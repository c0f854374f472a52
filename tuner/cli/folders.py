"""Finds the folder of a study, or makes a new one."""

import re
from datetime import UTC, datetime
from pathlib import Path

from tuner.cli.exit_codes import Missing
from tuner.config.errors import ConfigError
from tuner.config.load import save
from tuner.config.study import StudyConfig
from tuner.results.durable import PRIVATE_FOLDER

SIMULATED = "simulated"  # a file beside the ledger: the study runs on the virtual clock, in so many processes
MAX_WORKERS = 4096
VARIANTS = 99  # folders of the same name and second, told apart by a number


def find_study(name: Path) -> Path:
    """The folder of a study by path, or by name under ./studies. Raises Missing."""
    try:
        for folder in (name, Path("studies") / name):
            if (folder / "study.yaml").exists():
                return folder
    except OSError as error:
        raise Missing(f"no study at {name}: {(error.strerror or str(error)).lower()}") from error
    known = sorted(path.parent.name for path in Path("studies").glob("*/study.yaml"))
    there = f"there are: {', '.join(known)}" if known else "there are none"
    raise Missing(
        f"no study at {name} (a study is a folder with a study.yaml); under ./studies {there}"
    )


def new_folder(config: StudyConfig) -> Path:
    """Makes OUTPUT_DIR/NAME-DATE-TIME with the resolved configuration in it, for its owner alone.

    Raises Missing.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.-]+", "-", config.name)
    folder = Path(config.output_dir).absolute() / f"{name}-{stamp}"
    for variant in range(1, VARIANTS + 1):
        made = folder if variant == 1 else folder.with_name(f"{folder.name}-{variant}")
        try:
            made.mkdir(mode=PRIVATE_FOLDER, parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise Missing(f"output_dir: cannot create {made}: {error.strerror}") from error
        except ValueError as error:  # a NUL in the path
            raise ConfigError(f"output_dir: {config.output_dir!r}: {error}") from error
        save(config, made)
        return made
    raise Missing(f"{folder} and {VARIANTS - 1} numbered variants of it already exist")


def save_workers(folder: Path, workers: int) -> None:
    """Marks a study as simulated. The search depends on the number of trials that run at once."""
    (folder / SIMULATED).write_text(f"{workers}\n")


def saved_workers(folder: Path) -> int | None:
    """In how many processes the study was simulated before; None if it does not say (0.1.0)."""
    try:
        with (folder / SIMULATED).open("rb") as file:
            text = file.read(16).decode("ascii", "replace").strip()
    except OSError as error:
        raise Missing(f"{folder / SIMULATED}: {error.strerror}") from error
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) <= MAX_WORKERS:
        raise Missing(
            f"{folder / SIMULATED}: {text!r} is not a number of processes: resume with --workers"
        )
    return int(text)
