"""Finds the folder of a study, or makes a new one."""

import re
from datetime import UTC, datetime
from pathlib import Path

from tuner.cli.exit_codes import Missing
from tuner.config.load import save
from tuner.config.study import StudyConfig

SIMULATED = "simulated"  # a file beside the ledger: the study runs on the virtual clock
VARIANTS = 99  # folders of the same name and second, told apart by a number


def find_study(name: Path) -> Path:
    """The folder of a study by path, or by name under ./studies. Raises Missing."""
    for folder in (name, Path("studies") / name):
        if (folder / "study.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in Path("studies").glob("*/study.yaml"))
    there = f"there are: {', '.join(known)}" if known else "there are none"
    raise Missing(
        f"no study at {name} (a study is a folder with a study.yaml); under ./studies {there}"
    )


def new_folder(config: StudyConfig) -> Path:
    """Makes OUTPUT_DIR/NAME-DATE-TIME with the resolved configuration in it. Raises Missing."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = re.sub(r"[^\w.-]+", "-", config.name)
    folder = Path(config.output_dir).absolute() / f"{name}-{stamp}"
    for variant in range(1, VARIANTS + 1):
        made = folder if variant == 1 else folder.with_name(f"{folder.name}-{variant}")
        try:
            made.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise Missing(f"output_dir: cannot create {made}: {error.strerror}") from error
        save(config, made)
        return made
    raise Missing(f"{folder} and {VARIANTS - 1} numbered variants of it already exist")
