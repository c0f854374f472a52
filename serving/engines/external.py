"""An endpoint that runs already, anywhere: nothing is started, and nothing is stopped."""

from typing import ClassVar, Literal

from serving.engines.base import BaseEngine, Launch


class External(BaseEngine):
    """Any OpenAI-compatible server at `url`; its own knobs are out of reach."""

    default_executable: ClassVar[str] = ""
    typical_start_s: ClassVar[float] = 0.0

    kind: Literal["external"] = "external"
    url: str

    def command(self, launch: Launch) -> list[str]:
        return []
