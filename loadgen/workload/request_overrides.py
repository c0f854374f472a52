"""Changes to the requests of a workload: fields of the body, headers, TLS."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator

from loadgen.workload.strict import Strict

BODY_FIELDS = (
    "model", "max_tokens", "prompt", "messages", "temperature", "stream", "stream_options", "ignore_eos",
)  # fmt: skip
PROMPTS = ("prompt", "messages")
LIMITS = ("max_tokens", "max_completion_tokens", "max_new_tokens", "max_output_tokens", "n_predict")
# What HTTP itself needs: another value would break the exchange.
_OURS = ("connection", "content-length", "expect", "te", "transfer-encoding", "upgrade")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class RequestOverrides(Strict):
    """What is sent in place of the usual body and headers, and how TLS is verified.

    The usual body: model, max_tokens, prompt or messages, temperature, stream, stream_options, ignore_eos.
    """

    body: dict[Name, JsonValue] = Field(
        default_factory=dict, description="fields of the request body to set, as in {priority: 1}"
    )
    rename: dict[Name, Name] = Field(
        default_factory=dict,
        description="fields of the usual body to send under another name,"
        " as in {max_tokens: max_completion_tokens}",
    )
    drop: tuple[Name, ...] = Field(
        default=(), description="fields of the usual body to leave out, as in [ignore_eos]"
    )
    headers: dict[Name, str] = Field(
        default_factory=dict,
        description="headers to send; no secrets: they are stored with results",
    )
    headers_from_env: dict[Name, Name] = Field(
        default_factory=dict,
        description="headers whose value is in an environment variable, as in {api-key: AZURE_API_KEY}",
    )
    ca_file: Path | None = Field(
        default=None, description="certificates (PEM) to trust beside those of the system"
    )
    client_cert: Path | None = Field(
        default=None, description="client certificate (PEM), for servers that require one"
    )
    client_key: Path | None = Field(
        default=None, description="private key of the client certificate, if in a file of its own"
    )
    verify_tls: bool = Field(default=True, description="check the certificate of the server")

    @property
    def files(self) -> dict[str, Path]:
        """The files that it names, by field."""
        named = {name: getattr(self, name) for name in ("ca_file", "client_cert", "client_key")}
        return {name: path for name, path in named.items() if path is not None}

    @field_validator("headers", "headers_from_env")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a header")
            if name.lower() in _OURS:
                raise ValueError(f"{name} is set by the load generator")
            if not (value.isascii() and value.isprintable()):
                raise ValueError(
                    f"{name}: the value has characters that are not allowed in a header"
                )
        return headers

    @field_validator("headers")
    @classmethod
    def _no_secret(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in (
                "authorization",
                "proxy-authorization",
                "cookie",
                "api-key",
                "x-api-key",
            ):
                raise ValueError(f"{name} is a secret, and would be stored: use headers_from_env")
        return headers

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = [name for name in (*self.rename, *self.drop) if name not in BODY_FIELDS]
        if unknown:
            fields = ", ".join(BODY_FIELDS)
            raise ValueError(f"{unknown[0]!r} is no field of the usual body, which has {fields}")
        both = set(self.drop) & ({*self.rename} | {*self.body})
        if both:
            raise ValueError(f"{min(both)}: it is dropped, and set or renamed as well")
        if "stream" in (*self.drop, *self.rename) or self.body.get("stream", True) is not True:
            raise ValueError("stream: only responses that are streamed can be timed")
        if made := {*self.drop, *self.body} & {*PROMPTS}:
            raise ValueError(f"{min(made)}: it comes from the workload")
        names = [self.rename.get(name, name) for name in BODY_FIELDS if name not in self.drop]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"rename: two fields would be {min(twice)}")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("client_key needs client_cert")
        return self
