"""A server that is already running, anywhere: nothing is started, and nothing is stopped."""

from typing import ClassVar, Literal

from pydantic import Field

from serving.engines.base import BaseEngine, Launch


class External(BaseEngine):
    """Any OpenAI-compatible server; its own settings can't be changed from here."""

    default_executable: ClassVar[str] = ""
    typical_start_s: ClassVar[float] = 0.0

    kind: Literal["external"] = Field(
        default="external", description="an OpenAI-compatible server that is already running"
    )
    url: str = Field(description="base URL of the server, with or without /v1")

    def command(self, launch: Launch) -> list[str]:
        """Empty."""
        return []
