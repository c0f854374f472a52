"""Where the results of a study are mirrored. Pure."""

from typing import Literal

from pydantic import Field

from serving.topology import Strict


class TrackingConfig(Strict):
    """Where the results of a study are mirrored, besides its ledger."""

    kind: Literal["mlflow", "none"] = Field(
        default="mlflow", description="mlflow: as MLflow runs; none: the ledger only"
    )
    uri: str | None = Field(
        default=None,
        description="tracking URI without a password: http(s) of a server, or a database; null: SQLite in the "
        "output directory. Credentials: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
        "MLFLOW_TRACKING_TOKEN, in the environment",
    )
    experiment: str = Field(default="wattfront", description="name of the MLflow experiment")
