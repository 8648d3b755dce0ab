"""What every body of the HTTP API is: strict, closed, immutable."""

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """Strict, closed, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, protected_namespaces=()
    )
