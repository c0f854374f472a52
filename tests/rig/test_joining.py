"""A cluster that asks for a token, with a host that has no Wattfront and none of the head's files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.conftest import HEAD, Studies, on_host, start_head, start_workers
from tests.rig.hosts import REPO, Host, hosts
from tests.rig.test_plain_cluster import JOIN, PARALLEL

pytestmark = pytest.mark.process

TOKEN, OTHER = "a" * 64, "b" * 64
ASKED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def rig() -> Iterator[list[Host]]:
    with hosts("a", "b") as rig:
        for package in ("loadgen", "serving", "tuner"):
            rig[1].hide(REPO / package)
        start_head(rig[0], "--num-cpus=2", "--num-gpus=0", **ASKED)
        start_workers(rig[1], **ASKED)
        yield rig


def test_a_token_is_asked_for_in_one_line(rig: list[Host]) -> None:
    none, wrong, right = (
        on_host(rig[0], JOIN, HEAD, **env)
        for env in ({}, {"RAY_AUTH_TOKEN": OTHER}, {"RAY_AUTH_TOKEN": TOKEN})
    )
    assert "asks for a token, and none is here: put it into RAY_AUTH_TOKEN" in none
    assert "refuses the token of RAY_AUTH_TOKEN" in wrong
    assert right == "joined\n"
    assert len(none.splitlines()) == len(wrong.splitlines()) == 1


def test_the_code_is_sent_to_a_host_that_lacks_it(rig: list[Host], tmp_path: Path) -> None:
    studies = Studies(tmp_path, rig[0])
    code, output = studies.run(*studies.arguments(f"{{{PARALLEL}: 1}}"), RAY_AUTH_TOKEN=TOKEN)
    assert code in (0, 3), output
    assert "Wattfront is missing or another version on b" in output
    (found,) = studies.results()
    assert found.result.status == "completed", output
    assert found.result.provenance["host"] == "b"


def test_a_host_without_the_model_is_named_before_the_study(
    rig: list[Host], tmp_path: Path
) -> None:
    studies = Studies(tmp_path, rig[0])
    only_here = rig[0].own / "only.gguf"
    rig[0].run(["touch", str(only_here)])
    arguments = studies.arguments(f"{{{PARALLEL}: 1}}")
    code, output = studies.run(*arguments, f"model.source={only_here}", RAY_AUTH_TOKEN=TOKEN)
    assert code == 4, output
    assert output.strip().splitlines()[-1].startswith("wattfront: node b: ")
    assert str(only_here) in output
    assert studies.results() == []
