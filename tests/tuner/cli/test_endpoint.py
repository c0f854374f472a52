"""`wattfront bench URL`: one command measures a server that runs already, or one line says why it can't."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.topology import Topology
from tests.loadgen.certificates import certificate
from tests.tuner.cli.api_server import Answer, Api, as_json, listening, models, serving
from tests.tuner.cli.fixtures import Captured, bare_machine, one_line
from tuner.cli.parser import main
from tuner.config.resolve import trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import fingerprint_of
from tuner.search.factory import SearchSetup
from tuner.study.environment import needed_by_ray

__all__ = ["bare_machine"]
COMPLETED = as_json({"choices": [{"text": "a"}]})
REFUSED = as_json({"error": {"message": "prompt must be a string"}}, 400)
HTML: Answer = (200, {"Content-Type": "text/html"}, b"<!doctype html><title>Sign in</title>")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[StudyConfig]:
    """The studies that would have run."""
    found: list[StudyConfig] = []
    monkeypatch.setattr("tuner.cli.studies.run_study", lambda config: found.append(config) or 0)
    return found


@pytest.fixture
def api() -> Iterator[Api]:
    """A server of one model that takes token ids."""
    made = Api({"/v1/models": models("qwen", max_model_len=4096), "/v1/completions": COMPLETED})
    with serving(made) as made.url:
        yield made


def test_a_url_is_all_it_takes(api: Api, ran: list[StudyConfig], capsys: Captured) -> None:
    assert main(["bench", f"{api.url}/v1"]) == 0
    (study,) = ran
    assert list(study.engine) == ["external"]
    assert (study.model.name, study.model.context_tokens) == ("qwen", 4096)
    assert not study.space.parameters
    assert study.search.trials == 1
    assert [study.hardware.name, study.workload.name, list(study.slo.tiers)] == [
        "endpoint",
        "endpoint",
        ["unlimited"],
    ]
    trial = trial_config(study, {})
    assert trial.topology.cpus == 1
    older = trial.model_dump(mode="json")
    del older["engine"]["api_key_env"]
    assert fingerprint_of(older) == trial.fingerprint
    assert not capsys.readouterr().err
    ids = [body["prompt"] for _, _, body in api.asked if body]
    assert ids == [list(range(100, 108))]


@pytest.mark.parametrize(
    ("answers", "route", "said"),
    [
        ({}, ("completions", "token_ids"), "/v1/completions, prompts as token ids"),
        (
            {"/v1/completions": as_json({}, 404), "/v1/chat/completions": COMPLETED},
            ("chat", "text"),
            "/v1/chat/completions, prompts as text (lengths are approximate",
        ),
    ],
)
def test_prompts_are_those_that_the_server_takes(
    answers: dict[str, Answer],
    route: tuple[str, str],
    said: str,
    api: Api,
    ran: list[StudyConfig],
    capsys: Captured,
) -> None:
    api.answers |= answers
    assert main(["bench", api.url]) == 0
    assert (ran[0].workload.endpoint, ran[0].workload.prompt) == route
    assert said in capsys.readouterr().out


def test_text_goes_where_token_ids_are_refused(
    api: Api, ran: list[StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = api.answer

    def text_only(path: str, key: str, body: object) -> Answer:
        refused = isinstance(body, dict) and isinstance(body.get("prompt"), list)
        return REFUSED if refused else plain(path, key, body)

    monkeypatch.setattr(api, "answer", text_only)
    assert main(["bench", api.url]) == 0
    assert (ran[0].workload.endpoint, ran[0].workload.prompt) == ("completions", "text")


def test_what_is_typed_counts(api: Api, ran: list[StudyConfig]) -> None:
    api.answers["/v1/models"] = models("a", "b")
    words = ["model.name=b", "workload=chat_text", "slo=interactive", "workload.level_s=31"]
    assert main(["bench", api.url, *words]) == 0
    (study,) = ran
    assert (study.model.name, study.workload.endpoint) == ("b", "chat")
    assert (study.workload.level_s, "premium" in study.slo.tiers) == (31, True)
    assert [path for path, *_ in api.asked] == ["/v1/models"], "text needs no try"


def test_the_layout_of_a_server_counts_devices_and_reserves_none(
    api: Api, ran: list[StudyConfig]
) -> None:
    assert (
        main(["bench", api.url, "topology=tp8", "topology.pipeline_parallel=2", "hardware=b300"])
        == 0
    )
    (study,) = ran
    trial = trial_config(study, {})
    assert (trial.devices, study.hardware.device) == (16, "GPU")
    assert trial.reserves == study.reserves == Topology(cpus=1)
    assert SearchSetup(study, (0, 2)).space.possible({})


def test_a_layout_needs_the_hardware_that_it_counts(api: Api, capsys: Captured) -> None:
    assert main(["bench", api.url, "topology=tp8"]) == 2
    assert (
        "hardware: endpoint counts per host, but the topology takes GPUs" in capsys.readouterr().err
    )


def test_an_experiment_gives_the_load_and_the_slo(api: Api, ran: list[StudyConfig]) -> None:
    assert main(["bench", api.url, "experiment=smoke"]) == 0
    assert (list(ran[0].engine), ran[0].workload.name) == (["external"], "smoke")


def test_the_key_is_of_the_environment(
    api: Api, ran: list[StudyConfig], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    api.key = "c4nary"
    assert main(["bench", api.url]) == 4
    assert "HTTP 401: it asks for an API key (set OPENAI_API_KEY, or name" in one_line(capsys)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    assert main(["bench", api.url]) == 4
    assert "HTTP 401: it refuses this API key (the one in OPENAI_API_KEY" in one_line(capsys)
    named = "engine.external.api_key_env=SITE_KEY"
    assert main(["bench", api.url, named]) == 4
    assert "api_key_env: SITE_KEY is not set" in one_line(capsys)
    monkeypatch.setenv("SITE_KEY", "c4nary\n")
    assert main(["bench", api.url, named]) == 0
    assert "API key from SITE_KEY" in capsys.readouterr().out
    assert "c4nary" not in ran[0].model_dump_json()
    assert "SITE_KEY" in needed_by_ray(ran[0])


def test_a_gateway_without_a_list_needs_a_name(
    api: Api, ran: list[StudyConfig], capsys: Captured
) -> None:
    del api.answers["/v1/models"]
    assert main(["bench", api.url]) == 4
    assert "HTTP 404" in (line := one_line(capsys))
    assert "if the URL is right, set model.name=…" in line
    assert main(["bench", api.url, "model.name=org/m"]) == 0
    assert ran[0].model.name == "org/m"


def test_an_adapter_is_no_second_model(api: Api, ran: list[StudyConfig]) -> None:
    data = [{"id": "base", "parent": None}, {"id": "lora", "parent": "base"}]
    api.answers["/v1/models"] = as_json({"data": data})
    assert main(["bench", api.url]) == 0
    assert ran[0].model.name == "base"


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (models(), 4, "the list of models is empty"),
        (models("a", "b"), 2, "serves 2 models: choose one, model.name='a'; models: a, b"),
        (HTML, 4, "/v1/models: HTTP 200: a web page, not the JSON of an OpenAI-compatible API"),
        ((404, *HTML[1:]), 4, "/v1/models: HTTP 404: a web page"),
        ((200, {}, b"pong"), 4, "the answer is no list of models: pong"),
        (as_json([1]), 4, "the answer is no list of models: [1]"),
        (as_json({"data": [7]}), 4, "the answer is no list of models: "),
        (as_json({"error": "Loading model"}, 503), 4, "/v1/models: HTTP 503: "),
        (
            (307, {"Location": "https://other/v1/models"}, b""),
            4,
            "HTTP 307: it redirects, and a load follows no redirect: use https://other/v1",
        ),
    ],
)
def test_a_list_that_is_none_is_one_line(
    answer: Answer, code: int, said: str, api: Api, capsys: Captured
) -> None:
    api.answers["/v1/models"] = answer
    assert main(["bench", api.url]) == code
    assert said in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["localhost:8000"], "localhost:8000: a URL begins with http:// or https://: http://local"),
        (["10.0.0.1/v1"], "a URL begins with http:// or https://: http://10.0.0.1/v1"),
        (["ftp://a"], "ftp://a: expected http://HOST:PORT or https://HOST:PORT"),
        (["http://a:99999"], "http://a:99999: Port out of range"),
        (["http://a/v1?x=1"], "remove ?query and #fragment"),
        (["http://a", "http://b"], "http://b: one URL at a time, and http://a is one already"),
        (
            ["http://a", "engine=vllm"],
            "engine=vllm: http://a is an engine that runs already: leave it out",
        ),
        (["http://a", "workload.level_s=0"], "workload.level_s: must be > 0"),
        (["http://me:pw@a"], "a user name in the URL is not sent: use an API key"),
        (["llamacpp"], "llamacpp: not an override (key=value)"),
    ],
)
def test_a_url_that_is_none_is_one_line_at_once(
    words: list[str], said: str, ran: list[StudyConfig], capsys: Captured
) -> None:
    assert main(["bench", *words]) == 2
    assert said in one_line(capsys)
    assert not ran


@pytest.mark.parametrize("command", ["tune", "plan", "simulate"])
def test_other_commands_say_which_takes_a_url(command: str, capsys: Captured) -> None:
    assert main([command, "http://a:1"]) == 2
    assert "measured by `wattfront bench http://a:1`" in one_line(capsys)


def test_a_server_that_is_not_there_or_is_none(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.cli.served_models.ANSWER_S", 0.3)
    assert main(["bench", "http://127.0.0.1:1"]) == 4
    assert one_line(capsys).endswith("can't connect to 127.0.0.1:1: connection refused\n")
    assert main(["bench", "http://nosuch.invalid"]) == 4
    assert "can't connect to nosuch.invalid:80: " in one_line(capsys)
    with listening() as where:
        assert main(["bench", f"http://{where}"]) == 4
        assert "/v1/models: no answer within 0.3 s" in one_line(capsys)
        assert main(["bench", f"https://{where}"]) == 4
        assert "no TLS within 0.3 s: does it expect http://?" in one_line(capsys)
    with listening(b"SSH-2.0-OpenSSH_9.6\r\n") as where:
        assert main(["bench", f"http://{where}"]) == 4
        assert "does not answer in HTTP: does it expect https://?" in one_line(capsys)


def test_tls(ran: list[StudyConfig], tmp_path: Path, capsys: Captured) -> None:
    public, context = certificate(tmp_path, "127.0.0.1")
    api = Api({"/v1/models": models("qwen"), "/v1/completions": COMPLETED})
    with serving(api, context) as url:
        assert main(["bench", url]) == 4
        line = one_line(capsys)
        assert (
            "its certificate is not trusted: self-signed certificate (workload.request.ca" in line
        )
        assert main(["bench", url, f"workload.request.ca_file={public}"]) == 0
        assert main(["bench", url, "workload.request.verify_tls=false"]) == 0
        capsys.readouterr()
        assert main(["bench", url.replace("https", "http")]) == 4
        assert "does not answer in HTTP: does it expect https://?" in one_line(capsys)
    with serving(api) as url:
        assert main(["bench", url.replace("http", "https")]) == 4
        assert "TLS failed: " in one_line(capsys)
    assert len(ran) == 2


def test_no_server_is_asked_for_what_is_only_shown(api: Api, capsys: Captured) -> None:
    assert main(["bench", api.url, "--cfg", "job"]) == 0
    text = capsys.readouterr().out
    assert f"url: {api.url}" in text
    assert "name: ???" in text
    assert not api.asked


def test_each_study_of_a_multirun_gets_the_model(
    api: Api, ran: list[StudyConfig], capsys: Captured
) -> None:
    assert main(["bench", "-m", api.url, "workload.level_s=4,5"]) == 0
    assert [study.workload.level_s for study in ran] == [4, 5]
    said = [line for line in capsys.readouterr().out.splitlines() if "qwen at " in line]
    assert len(said) == 1
