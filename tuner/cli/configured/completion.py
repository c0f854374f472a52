"""Completion by the tab key. The shells' scripts run this module with the line up to the cursor."""

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from serving.engines import ENGINES
from tuner.cli.exit_codes import Missing
from tuner.config.compose.options import groups, options
from tuner.config.fields import keys_at
from tuner.config.study import StudyConfig

# What the parser has, without building it: importing all commands takes longer than a key press may.
STUDIES = {
    "tune": ("--dry-run",),
    "bench": (),
    "simulate": ("--workers", "--to-mlflow"),
    "plan": (),
}
OF_STUDIES = ("report", "resume", "fleet")  # take the name of a study
OTHERS = ("list", "ledger", "engines", "models", "twin", "doctor")
OPTIONS = (
    "--multirun",
    "--config-dir",
    "--config-name",
    "--cfg",
    "--resolve",
    "--info",
    "--help",
)
SHELLS = ("bash", "zsh", "fish")
SCRIPTS = {
    "bash": """_wattfront() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_CUT="$COMP_WORDBREAKS" {run} "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o nospace -o default -F _wattfront wattfront
""",
    "zsh": """#compdef wattfront
_wattfront() {
    local -a found
    found=("${(@f)$({run} "${LBUFFER}" 2>/dev/null)}")
    compadd -S '' -- $found
}
if [ "$funcstack[1]" = _wattfront ]; then _wattfront "$@"; else compdef _wattfront wattfront; fi
""",
    "fish": """complete -c wattfront -f -a '({run} (commandline -cp) 2>/dev/null)'
""",
}
FILES = {
    "bash": ("XDG_DATA_HOME", ".local/share", "bash-completion/completions/wattfront"),
    "zsh": ("XDG_DATA_HOME", ".local/share", "zsh/site-functions/_wattfront"),
    "fish": ("XDG_CONFIG_HOME", ".config", "fish/completions/wattfront.fish"),
}
ACTIVATED = {
    "bash": "bash-completion loads it in new shells; without that: echo 'source {path}' >> ~/.bashrc",
    "zsh": "add to ~/.zshrc, before compinit: fpath=({folder} $fpath)",
    "fish": "new shells load it",
}


def candidates(line: str, config_dir: Path | None = None) -> list[str]:
    """The words that may stand in place of the last one of a command line."""
    *before, current = line.split(" ")
    words = [word for word in before[1:] if word]
    if not words:
        known = [*STUDIES, *OF_STUDIES, *OTHERS]
    elif words[0] in STUDIES and current.startswith("-"):
        known = [*OPTIONS, *STUDIES[words[0]]]
    elif words[0] in STUDIES:
        known = _overrides(current, _config_dir(words) or config_dir)
    elif words[0] == "list":
        known = groups(config_dir)
    elif words[0] in OF_STUDIES and len(words) == 1:
        known = sorted(path.parent.name for path in Path("studies").glob("*/study.yaml"))
    else:
        known = []
    return [word for word in known if word.startswith(current)]


def script(shell: str) -> str:
    """The script of a shell."""
    return SCRIPTS[shell].replace("{run}", f"'{sys.executable}' -m {__name__}")


def install(shell: str) -> tuple[Path, str]:
    """Writes the script where the shell looks for it. Returns the file, and what is left to do."""
    variable, usual, below = FILES[shell]
    path = Path(os.environ.get(variable) or Path.home() / usual) / below
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script(shell))
    except OSError as error:
        raise Missing(f"{path}: {(error.strerror or str(error)).lower()}") from error
    return path, ACTIVATED[shell].format(path=path, folder=path.parent)


def _config_dir(words: Sequence[str]) -> Path | None:
    for option, value in itertools.pairwise(words):
        if option in ("--config-dir", "-cd"):
            return Path(value)
    return None


def _overrides(current: str, config_dir: Path | None) -> list[str]:
    """Groups with their options, and the keys of the configuration, one step at a time."""
    sign = current[: len(current) - len(current.lstrip("+~"))]
    key, equals, value = current.removeprefix(sign).partition("=")
    known = groups(config_dir, "config")
    if equals:
        start, comma, _ = value.rpartition(",")
        return [
            f"{sign}{key}={start}{comma}{option.name}"
            for option in (options(key, config_dir) if key in known else ())
        ]
    *parents, _ = key.split(".")
    if not parents:
        return [
            *(f"{sign}{name}=" for name in (*known, "name", "output_dir")),
            *(f"{sign}{name}." for name in known if name in StudyConfig.model_fields),
        ]
    return [f"{sign}{'.'.join([*parents, name])}" for name in _keys(parents)]


def _keys(parents: Sequence[str]) -> list[str]:
    """The next part of a dotted path: with a point where there is more, with = where there is none."""
    if parents == ["engine"]:
        return [f"{name}." for name in ENGINES]
    model: type[BaseModel] = StudyConfig
    inner = list(parents)
    if parents[0] == "engine":
        if parents[1] not in ENGINES:
            return []
        model, inner = ENGINES[parents[1]], inner[2:]
    return [
        f"{name}." if keys_at(model, [*inner, name]) else f"{name}="
        for name in keys_at(model, inner)
    ]


def main() -> None:
    """Prints the candidates for the line that is the first argument, one a line.

    Bash replaces the part of the word after the last of its word breaks only: COMP_CUT holds them.
    """
    line = sys.argv[1] if len(sys.argv) > 1 else ""
    current, cut = line.rpartition(" ")[2], 0
    for mark in "=:":
        if mark in os.environ.get("COMP_CUT", ""):
            cut = max(cut, current.rfind(mark) + 1)
    for word in candidates(line):
        sys.stdout.write(f"{word[cut:]}\n")


if __name__ == "__main__":
    main()
