"""What a plan prints."""

import io

from rich.console import Console

from serving.engines import External
from tests.tuner.samples.study import sample_config
from tuner.config.resolve import single
from tuner.report.plan import show_plan


def test_an_external_server_has_no_command() -> None:
    elsewhere = {"external": External(url="http://127.0.0.1:1")}
    config = single(sample_config().model_copy(update={"engine": elsewhere}))
    said = io.StringIO()
    show_plan(config, Console(file=said, width=80))
    assert "http://127.0.0.1:1 is already running" in said.getvalue()
