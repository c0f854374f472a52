"""A ledger whose file is cut, removed, replaced or can't be written while a study runs: no result is lost."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tuner.samples.study import POINTS, sample_config, sample_result
from tuner.config.resolve import trial_config
from tuner.results.ledger import LEDGER, Ledger, LedgerError, read, results
from tuner.trial.result import Measured

CONFIG = sample_config()
TRIALS = [trial_config(CONFIG, point) for point in POINTS]


def ask(ledger: Ledger, number: int) -> None:
    ledger.asked(number, POINTS[number], TRIALS[number].fingerprint)


def finish(ledger: Ledger, number: int) -> None:
    result = sample_result(TRIALS[number], number)
    ledger.finished(number, POINTS[number], Measured(result, {"engine.log": b"up\n"}))


def run(ledger: Ledger, numbers: range) -> None:
    for number in numbers:
        ask(ledger, number)
        finish(ledger, number)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 700)


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def removed(path: Path) -> None:
    path.unlink()


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("something else\n")
    other.rename(path)


def edited(path: Path) -> None:
    """As most editors save: a new file in its place."""
    new = path.with_name(".swap")
    new.write_bytes(path.read_bytes()[:-100])
    new.rename(path)


def written_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"status":"asked","num')


DISTURBANCES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut in the middle of a line": (cut, "cut"),
    "cut to nothing": (cut_to_nothing, "cut"),
    "removed": (removed, "removed"),
    "removed with its folder": (folder_removed, "removed"),
    "replaced": (replaced, "replaced"),
    "edited": (edited, "replaced"),
    "written to": (written_to, "written to by somebody else"),
}


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_a_disturbed_ledger_is_written_again_from_memory(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    disturb, said = DISTURBANCES[kind]
    undisturbed, study = tmp_path / "undisturbed", tmp_path / "study"
    with Ledger.open(undisturbed) as ledger:
        run(ledger, range(8))
    with Ledger.open(study) as ledger:
        run(ledger, range(4))
        disturb(study / LEDGER)
        there = (study / LEDGER).read_bytes() if (study / LEDGER).exists() else None
        run(ledger, range(4, 8))
    assert len(caplog.records) == 1
    assert f"was {said} while the study ran" in caplog.text
    assert [e.result for e in read(study)] == [e.result for e in read(undisturbed)]
    with Ledger.open(study) as ledger:
        run(ledger, range(8, 10))
    assert len(results(study)) == len(POINTS)
    assert len(caplog.records) == 1
    kept = study / f"{LEDGER}.found-1"
    assert kept.exists() == (there is not None)
    if there is not None:
        assert kept.read_bytes() == there


def test_no_second_process_writes_to_a_ledger_that_was_replaced(tmp_path: Path) -> None:
    """The lock is that of the file in place: who finds another's there keeps off it."""
    with Ledger.open(tmp_path) as first:
        run(first, range(2))
        (tmp_path / LEDGER).rename(tmp_path / "moved")
        with Ledger.open(tmp_path) as second:
            run(second, range(1))
            with pytest.raises(LedgerError, match="another process"):
                run(first, range(2, 3))
        run(first, range(3, 4))
    assert [entry.number for entry in results(tmp_path)] == [0, 1, 3]
    assert (tmp_path / f"{LEDGER}.found-1").exists()


FULL = """
import resource, sys
from pathlib import Path
from tests.tuner.results.test_disturbed import ask, finish, run
from tuner.results.ledger import Ledger, LedgerError

study, limit = Path(sys.argv[1]), int(sys.argv[2])
try:
    with Ledger.open(study) as ledger:
        run(ledger, range(2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        for number in range(2, 5):
            for step in (ask, finish):
                try:
                    step(ledger, number)
                except LedgerError as error:
                    print(error)
        if sys.argv[3] == "room":
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        if sys.argv[3] == "elsewhere":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, -1))
            (study / "ledger.jsonl").unlink()
            study.rename(study.with_name("gone"))
            study.write_text("no folder any more")
except LedgerError as error:
    print("END", error)
"""


def full(study: Path, limit: int, then: str) -> list[str]:
    """What is said while no file may grow beyond `limit` bytes, which is as if the disk were full."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(study), str(limit), then],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "TMPDIR": str(study.parent),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.process
def test_a_full_disk_loses_nothing_once_there_is_room(tmp_path: Path) -> None:
    said = full(tmp_path / "study", 11_000, "room")
    assert said
    assert all("cannot write it: File too large" in line for line in said)
    assert [entry.number for entry in results(tmp_path / "study")] == [0, 1, 2, 3, 4]


@pytest.mark.process
def test_a_disk_that_stays_full_leaves_whole_lines_and_says_where_the_rest_is(
    tmp_path: Path,
) -> None:
    *_, said = full(tmp_path / "study", 11_000, "full")
    assert said.startswith("END ")
    assert "no other folder takes it either" in said
    whole = results(tmp_path / "study")
    assert [entry.number for entry in whole] == list(range(len(whole)))
    assert len(whole) >= 2


@pytest.mark.process
def test_what_does_not_go_to_its_disk_goes_to_another(tmp_path: Path) -> None:
    *_, said = full(tmp_path / "study", 11_000, "elsewhere")
    place = Path(said.split("a whole ledger is at ")[1].split(":")[0])
    assert [entry.number for entry in results(place.parent)] == [0, 1, 2, 3, 4]


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() or mount is None:
        folder.chmod(0o500)
        return folder
    done = subprocess.run(
        ["unshare", "--mount", "true"], capture_output=True, check=False
    )  # a namespace of its own, so that nothing stays mounted
    if done.returncode:
        pytest.skip("root without the right to mount: no read-only folder can be made")
    return folder


@pytest.mark.process
def test_a_read_only_folder_is_one_line(read_only: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tuner.results.ledger import *\n"
        "try:\n  with Ledger.open(Path(sys.argv[1])): pass\nexcept LedgerError as e: print(e)"
    )
    command = [sys.executable, "-c", code, str(read_only)]
    if not os.geteuid():
        inner = f'mount -t tmpfs -o ro none {read_only} && exec "$0" "$@"'
        command = ["unshare", "--mount", "sh", "-c", inner, *command]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "cannot open it: " in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.process
def test_a_limit_of_the_file_size_is_no_signal() -> None:
    """Python ignores SIGXFSZ, so that a full disk and a limit look alike: `full` rests on that."""
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    assert resource.RLIMIT_FSIZE
