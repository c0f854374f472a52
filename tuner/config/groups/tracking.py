"""Where a study is mirrored to. Pure."""

from typing import Literal

from serving.topology import Strict


class TrackingConfig(Strict):
    """`uri` None: SQLite beside the studies. An http(s) URI: a tracking server."""

    kind: Literal["mlflow", "none"] = "mlflow"
    uri: str | None = None
    experiment: str = "wattfront"
