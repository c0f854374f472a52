"""The base of all models of outside data."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
