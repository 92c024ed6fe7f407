"""What every section of the file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, and an unknown key is an error: a typo must not silently mean the default."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
