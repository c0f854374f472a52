"""Child processes get variables by name; what is a secret, by its name; how texts are redacted."""

import pytest

from serving.engines import ENGINES
from serving.process.environ import (
    ACCELERATED,
    COMMON,
    PIP,
    RAY,
    has_password,
    inherited,
    names_secret,
    redacted,
    secret_option,
    secret_values,
)

SECRETS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "WATTFRONT_REDFISH_PASSWORD"),
    *("IPMI_PASSWORD", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "NGC_API_KEY", "VLLM_API_KEY"),
    *("OPENAI_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "PGPASSWORD", "RAY_AUTH_TOKEN"),
    *("AZURE_STORAGE_CONNECTION_STRING", "SSH_PRIVATE_KEY", "GITHUB_TOKEN", "WANDB_API_KEY"),
)
HARMLESS = (
    *("TOKENIZERS_PARALLELISM", "SGLANG_INIT_NEW_TOKEN_RATIO", "VLLM_MAX_TOKENS", "HF_TOKEN_PATH"),
    *("PATH", "PWD", "MONKEY", "KEYBOARD", "VLLM_ATTENTION_BACKEND", "RAY_AUTH_TOKEN_PATH"),
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert names_secret(name)
    assert names_secret(name.lower())


@pytest.mark.parametrize("name", HARMLESS)
def test_a_setting_is_no_secret(name: str) -> None:
    assert not names_secret(name)


def test_a_pattern_never_covers_a_secret() -> None:
    assert inherited(dict.fromkeys(SECRETS, "x"), ["*"]) == {}
    assert inherited({"HF_TOKEN": "x", "HF_HOME": "y"}, ["HF_*"]) == {"HF_HOME": "y"}
    assert inherited({"HF_TOKEN": "x"}, ["HF_TOKEN"]) == {"HF_TOKEN": "x"}


def test_what_every_child_gets() -> None:
    needed = {
        "PATH": "/bin",
        "HOME": "/h",
        "LC_ALL": "C",
        "https_proxy": "p",
        "XDG_CACHE_HOME": "c",
    }
    others = {"AWS_PROFILE": "a", "MLFLOW_TRACKING_URI": "m", "KUBECONFIG": "k", "PYTHONPATH": "p"}
    assert inherited({**needed, **others}) == needed


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_gets_what_its_framework_reads(name: str) -> None:
    """And of all secrets those alone that it needs to download a model."""
    engine = ENGINES[name].model_construct(env_passthrough=("MY_TOKEN",))
    environ = {
        **dict.fromkeys(SECRETS, "x"),
        **{"MY_TOKEN": "t", "NCCL_DEBUG": "INFO", "CUDA_HOME": "/c", "HF_HOME": "/hf"},
        **{"RAY_ADDRESS": "r", "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": "m"},
    }
    given = inherited(environ, engine.passed(downloads=False))
    key = {"OPENAI_API_KEY": "x"} if name == "external" else {}  # of a server that runs already
    accelerated = {"NCCL_DEBUG": "INFO", "CUDA_HOME": "/c"}
    assert given == {"MY_TOKEN": "t", "HF_HOME": "/hf", **accelerated, **key}
    more = inherited(environ, engine.passed(downloads=True)).keys() - given.keys()
    hub = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}
    needed = {"vllm": hub, "sglang": hub, "trtllm": hub, "nim": {*hub, "NGC_API_KEY"}}
    assert more == needed.get(name, set())


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("vllm", "VLLM_ATTENTION_BACKEND"),
        ("sglang", "SGLANG_SET_CPU_AFFINITY"),
        ("sglang", "SGL_X"),
        ("trtllm", "TRTLLM_ENABLE_PDL"),
        ("trtllm", "TLLM_LOG_LEVEL"),
        ("nim", "NIM_CACHE_PATH"),
        ("llamacpp", "LLAMA_ARG_MLOCK"),
    ],
)
def test_its_own_variables_reach_each_framework(name: str, variable: str) -> None:
    for other, engine in ENGINES.items():
        passed = engine.model_construct(env_passthrough=()).passed(downloads=False)
        if other == name:
            assert inherited({variable: "x"}, passed) == {variable: "x"}


def test_the_lists_name_no_secret_but_these() -> None:
    named = {each for each in (*COMMON, *ACCELERATED, *PIP, *RAY) if names_secret(each)}
    assert named == {"RAY_AUTH_TOKEN"}


def test_secrets_are_cut_out_of_texts() -> None:
    secrets = secret_values({"HF_TOKEN": "hf_12345", "PATH": "/usr/bin", "A_KEY": "ab"})
    assert secrets == ("hf_12345",)
    assert redacted("401 for hf_12345 at /usr/bin", secrets) == "401 for *** at /usr/bin"
    assert redacted("see postgresql://me:pa@ss@db:5432/x") == "see postgresql://***@db:5432/x"
    assert redacted("http://h/x?a=1&token=abc&b=2") == "http://h/x?a=1&token=***&b=2"


@pytest.mark.parametrize(
    ("url", "has"),
    [
        ("http://user:secret@host/x", True),
        ("postgresql://user@host:5432/db", False),
        ("postgresql://host/db?user=me&password=secret", True),
        ("http://host:5000/path@x", False),
        ("sqlite:////tmp/a.db", False),
    ],
)
def test_a_password_in_a_url(url: str, has: bool) -> None:
    assert has_password(url) == has


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--api-key", "abc"], "--api-key"),
        (["--api-key=abc"], "--api-key"),
        (["--x", "1", "--hf-token", "hf_x"], "--hf-token"),
        (["--admin-api-key", "abc"], "--admin-api-key"),
        (["--hf-token"], ""),
        (["--api-key", "--port", "1"], ""),
        (["--ssl-keyfile", "/k", "--max-num-batched-tokens", "1"], ""),
    ],
)
def test_an_option_that_is_a_secret(arguments: list[str], found: str) -> None:
    assert secret_option(arguments) == found
