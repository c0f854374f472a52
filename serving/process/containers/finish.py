"""Ends a container by its label and its id, whoever is left to do it. Standard library only.

The death of the command that started it does not end it: the daemon of docker, or podman's monitor, holds it.
The supervisor of that command runs this as a program, and so does the supervisor's guard; the owner, and
whoever finds a dead owner, call `finish`.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.process import supervise

MARK_LABEL = "wattfront.engine"  # the mark of leftovers.py: OWNER.RANDOM
NODE_LABEL = "wattfront.node"  # where the owner's pid means something: boot, pid namespace and user
CALL_S = 10.0  # for one answer of a runtime
FINISH_S = 15.0  # for the end of a container
POLL_S = 0.1
REPORT = "container: "  # before what is read from the runtime rather than from the engine's log
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from serving.process.containers.finish import main; sys.exit(main())"
)


class Silent(Exception):
    """The runtime does not answer, or answers an error: the line that says so."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a runtime's command printed."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """Of what it complained, else of what it printed."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}"


def call(
    client: str,
    *words: str,
    within_s: float = CALL_S,
    environ: Mapping[str, str] | None = None,
) -> Answer:
    """Runs a command of the runtime. Raises Silent where it can't be run, or does not end in time."""
    try:
        ended = subprocess.run(
            [client, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within_s,
            check=False,
            env=environ,
        )
    except subprocess.TimeoutExpired:
        shown = " ".join([Path(client).name, *words[:2]])
        raise Silent(
            f"{Path(client).name} does not answer within {within_s:g} s (`{shown}`): its daemon hangs"
        ) from None
    except OSError as error:
        raise Silent(f"{client} can't be run: {error.strerror}") from error
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def labelled(client: str, mark: str = "", node: str = "") -> list[str]:
    """The ids of all containers of this mark and node, running or not; empty: of any. Raises Silent."""
    filters = [f"label={MARK_LABEL}={mark}" if mark else f"label={MARK_LABEL}"]
    filters += [f"label={NODE_LABEL}={node}"] if node else []
    words = [word for each in filters for word in ("--filter", each)]
    answer = call(client, "ps", "--all", "--quiet", "--no-trunc", *words)
    if answer.code:
        raise Silent(f"{Path(client).name} ps: {answer.last_line}")
    return answer.out.split()


def inspected(client: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What the runtime knows of these containers; those that are gone are left out. Raises Silent."""
    if not ids:
        return []
    answer = call(client, "inspect", "--type", "container", *ids)
    try:
        found = json.loads(answer.out or "[]")
    except ValueError:
        raise Silent(f"{Path(client).name} inspect: {answer.last_line}") from None
    return [each for each in found if isinstance(each, dict)]


def state_of(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state in what `inspected` returns."""
    state = facts.get("State")
    return state if isinstance(state, Mapping) else {}


def report(state: Mapping[str, Any]) -> list[str]:
    """Lines that say why a container ended, where its log and its exit code do not."""
    if state.get("Running") or state.get("Status") == "created":
        return []
    lines = []
    if state.get("OOMKilled"):
        lines.append("the kernel killed it for lack of memory (OOMKilled)")
    if isinstance(error := state.get("Error"), str) and error.strip():
        lines.append(error.strip().splitlines()[0])
    return [f"{REPORT}{line}\n" for line in lines]


def id_in(cidfile: Path) -> str:
    """The id that the runtime wrote; empty: it created no container, or did not come to write its id."""
    with contextlib.suppress(OSError):
        return cidfile.read_text().strip()
    return ""


def finish(
    client: str,
    mark: str,
    node: str,
    cidfile: Path,
    log: Path | None = None,
    within_s: float = FINISH_S,
) -> str:
    """Ends and removes the container of this mark and its file. Why that failed; empty: nothing is left.

    `log`: gets the lines of `report` of a container that ended by itself.
    """
    cid, deadline, said = id_in(cidfile), time.monotonic() + within_s, False
    shared: set[str] = set()
    why = ""
    while True:
        try:
            ids = labelled(client, mark, node)
            if not ids:
                break
            states = [state_of(each) for each in inspected(client, ids)]
            if log is not None and not said:
                _append(log, [line for state in states for line in report(state)])
            said = True
            shared |= _shared_memory(states)
            why = _remove(client, ids)
        except Silent as silent:
            why = str(silent)
            if cid:  # a daemon that can't list its containers may still end one
                with contextlib.suppress(Silent):
                    _remove(client, [cid])
            else:
                break
        if time.monotonic() > deadline:
            return (
                f"container {cid[:12]} may still run: {why}"
                if why
                else f"container {cid[:12]} does not end"
            )
        time.sleep(POLL_S)
    supervise.remove_shared_memory(shared)
    cidfile.unlink(missing_ok=True)
    return ""


def _remove(client: str, ids: Sequence[str]) -> str:
    """SIGKILL, and removal with the volumes that have no name; what the runtime says of a failure."""
    call(client, "kill", *ids)
    answer = call(client, "rm", "--force", "--volumes", *ids)
    return answer.last_line if answer.code else ""


def _shared_memory(states: Sequence[Mapping[str, Any]]) -> set[str]:
    """The files in shared memory of the containers' processes, which they leave if they are killed."""
    roots = [pid for state in states if isinstance(pid := state.get("Pid"), int) and pid > 1]
    return supervise.mapped([pid for root in roots for pid in (root, *supervise.descendants(root))])


def _append(log: Path, lines: Sequence[str]) -> None:
    if lines:
        with contextlib.suppress(OSError), log.open("a") as file:
            file.writelines(lines)


def main() -> int:
    """`CLIENT MARK NODE CIDFILE LOG`."""
    client, mark, node, cidfile, log = sys.argv[1:6]
    if not Path(cidfile).exists():
        return 0
    why = finish(client, mark, node, Path(cidfile), Path(log))
    if why:
        _append(Path(log), [f"{REPORT}{why}\n"])
    return bool(why)
