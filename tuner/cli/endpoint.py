"""`wattfront bench URL`: what a server that runs already says of itself, before Ray starts."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadgen.cli.served_models import (
    CertificateRefused,
    Route,
    ServedModel,
    accepted_route,
    served_models,
)
from loadgen.errors import BadTarget, BadWorkload, EndpointErrors, EndpointUnreachable
from loadgen.http.connection_pool import tls
from loadgen.http.protocol import Target
from loadgen.http.request_encoder import secret_headers
from loadgen.workload.workload import Workload
from serving.engines import External
from tuner.cli.exit_codes import Missing
from tuner.config.compose import group_of, typed_in
from tuner.config.errors import ConfigError, suggestion
from tuner.config.load import load
from tuner.config.study import StudyConfig

EXPERIMENT = "experiment=endpoint"
UNKNOWN = "model.name=unknown"  # so that all else is judged before the server is asked


def bench_words(overrides: Sequence[str]) -> tuple[str, list[str]]:
    """The URL among the words, or "", and the words with what it stands for. Raises ConfigError."""
    urls = [word for word in overrides if is_url(word)]
    words = [word for word in overrides if word not in urls]
    if len(urls) > 1:
        raise ConfigError(f"{urls[1]}: one URL at a time, and {urls[0]} is one already")
    bare = next((word for word in words if word and "=" not in word and word[0] not in "~+"), "")
    if bare and not urls and ("." in bare or ":" in bare or bare == "localhost"):
        raise ConfigError(f"{bare}: a URL begins with http:// or https://: http://{bare}")
    if not urls:
        return "", words
    (url,) = urls
    try:
        Target.parse(url)
    except BadTarget as error:
        raise ConfigError(str(error)) from error
    others = [word for word in words if group_of(word) == "engine" and "=external" not in word]
    if others:
        raise ConfigError(f"{others[0]}: {url} is an engine that runs already: leave it out")
    whole = any(group_of(word) == "experiment" for word in words)
    chosen = {group_of(word) for word in words}
    experiment = ["engine=external", "space=none"] if whole else [EXPERIMENT]
    experiment = [word for word in experiment if group_of(word) not in chosen]
    address = f"engine.external.url='{url}'"
    return url, [*experiment, address, *words]


def is_url(word: str) -> bool:
    """Whether a word is a URL, and no override that holds one."""
    return "://" in word.partition("=")[0]


def with_endpoint(
    words: Sequence[str], config_dir: Path | None, root: str
) -> tuple[list[str], str]:
    """The words with the server's model and the prompts that it takes, and a line that names both.

    Raises ConfigError or Missing.
    """
    named = typed_in(words, "model.name")
    study = load([*words, *([] if named else [UNKNOWN])], config_dir, root)
    engine, workload = study.engine.get("external"), study.workload
    assert isinstance(engine, External)  # its URL is set
    target, headers = _target(engine, workload)
    model = _chosen(engine, target, headers, study.model.name if named else "")
    found: dict[str, object] = {
        "model.name": f"'{model.name}'",
        "model.context_tokens": model.context_tokens,
        "model.vocabulary": model.vocabulary,
    }
    route: Route = workload.endpoint, workload.prompt
    if workload.prompt == "token_ids":
        with _sentences(engine):
            route = accepted_route(target, model.name, headers)
        found |= {"workload.endpoint": route[0], "workload.prompt": route[1]}
    added = [
        f"{path}={value}"
        for path, value in found.items()
        if value is not None and not typed_in(words, path)
    ]
    return [*words, *added], _line(engine, model, target, route, workload)


def check_endpoint(study: StudyConfig) -> None:
    """Raises Missing or ConfigError if a server that runs already does not serve the model of the study."""
    for engine in study.engine.values():
        if isinstance(engine, External):
            target, headers = _target(engine, study.workload)
            _chosen(engine, target, headers, study.model.name)


def _target(engine: External, workload: Workload) -> tuple[Target, dict[str, str]]:
    """Where the load goes, and the headers that it has. Raises ConfigError or Missing."""
    name, request = engine.key_variable, workload.request
    key = os.environ.get(name, "").strip() or None
    if engine.api_key_env and key is None:
        raise Missing(f"engine.external.api_key_env: {name} is not set in the environment")
    try:
        target = Target.parse(engine.base_url, key, request)
        tls(target)
        return target, {**request.headers, **secret_headers(request)}
    except (BadTarget, BadWorkload) as error:
        raise ConfigError(str(error)) from error


def _chosen(
    engine: External, target: Target, headers: Mapping[str, str], wanted: str
) -> ServedModel:
    """The model to load: `wanted`, or the only one. Raises ConfigError or Missing."""
    try:
        with _sentences(engine):
            served = served_models(target, headers)
    except NoList:
        if wanted:  # some gateways have no list; the load will say if there is no such model
            return ServedModel(wanted)
        raise
    names = [each.name for each in served]
    if wanted:
        if wanted not in names:
            known = suggestion(wanted, names, "it serves")
            raise ConfigError(f"model.name: {engine.url} does not serve {wanted}; {known}")
        return served[names.index(wanted)]
    whole = [each for each in served if not each.adapter]
    if len(whole) != 1:
        known = suggestion("", names, "models")
        raise ConfigError(
            f"{engine.url} serves {len(names)} models: choose one, model.name='{names[0]}'; {known}"
        )
    return whole[0]


class NoList(Missing):
    """The server has no list of models."""


@contextmanager
def _sentences(engine: External) -> Iterator[None]:
    """What is wrong with a server as Missing, with what would be right."""
    try:
        yield
    except CertificateRefused as error:
        how = "workload.request.ca_file=…, or workload.request.verify_tls=false"
        raise Missing(f"{error} ({how})") from error
    except EndpointUnreachable as error:
        raise Missing(str(error)) from error
    except EndpointErrors as error:
        if error.status in (401, 403):
            name = engine.key_variable
            held = f"the one in {name}" if os.environ.get(name, "").strip() else f"set {name}"
            how = f"{held}, or name another variable: engine.external.api_key_env=NAME"
            raise Missing(f"{error.line} ({how})") from error
        if error.status in (404, 405):
            raise NoList(f"{error.line}; if the URL is right, set model.name=…") from error
        raise Missing(error.line) from error


def _line(
    engine: External, model: ServedModel, target: Target, route: Route, workload: Workload
) -> str:
    """What was found, in a line."""
    endpoint, prompt = route
    api = "/v1/chat/completions" if endpoint == "chat" else "/v1/completions"
    form = "token ids" if prompt == "token_ids" else "text"
    if prompt == "text" and workload.tokenizer is None:
        form += " (lengths are approximate without workload.tokenizer=…/tokenizer.json)"
    key = f", API key from {engine.key_variable}" if target.api_key else ""
    return f"{model.name} at {engine.url}: {api}, prompts as {form}{key}"
