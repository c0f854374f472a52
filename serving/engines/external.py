"""A server that is already running, anywhere: nothing is started, and nothing is stopped."""

from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from serving.engines.base import BaseEngine, Launch, Variable
from serving.process.containers.config import Container
from serving.telemetry.engine_metrics import names
from serving.telemetry.engine_metrics.page import MetricsPage

API_KEY = "OPENAI_API_KEY"  # the variable that the clients of such servers read


class External(BaseEngine):
    """Any OpenAI-compatible server; its own settings can't be changed from here."""

    default_executable: ClassVar[str] = ""
    typical_start_s: ClassVar[float] = 0.0
    metrics_page: ClassVar[MetricsPage] = names.ANY

    kind: Literal["external"] = Field(
        default="external", description="an OpenAI-compatible server that is already running"
    )
    url: str = Field(description="base URL of the server, with or without /v1")

    api_key_env: Variable | None = Field(
        default=None,
        description="name of the environment variable that holds the server's API key; unset: OPENAI_API_KEY, "
        "if it is set",
    )

    @property
    def key_variable(self) -> str:
        """The variable that may hold the server's API key."""
        return self.api_key_env or API_KEY

    @property
    def base_url(self) -> str:
        """The URL without /v1."""
        return self.url.rstrip("/").removesuffix("/v1")

    def passed(self, *, downloads: bool) -> tuple[str, ...]:
        """Also the variable of the API key, which is read where the load is started."""
        return (*super().passed(downloads=downloads), self.key_variable)

    @field_validator("container")
    @classmethod
    def _not_started(cls, container: Container | None) -> None:
        if container is not None:
            raise ValueError(
                "the server of engine.external runs already, so it has no container here"
            )

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        expected = "expected http://HOST:PORT or https://HOST:PORT"
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise ValueError(f"{expected}, without spaces and other special characters")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{expected}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise ValueError(expected)
        if parts.query or parts.fragment:
            raise ValueError("remove ?query and #fragment: they are not sent")
        return url

    def command(self, launch: Launch) -> list[str]:
        """Empty."""
        return []
