"""Writes to MLflow what the ledger has and the server lacks. The only folder that imports mlflow."""

from tuner.tracking.mlflow.client import TrackingError, with_password
from tuner.tracking.mlflow.mirror import Mirror

__all__ = ["Mirror", "TrackingError", "with_password"]
