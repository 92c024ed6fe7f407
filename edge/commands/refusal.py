"""A request that is not carried out."""

from __future__ import annotations

from typing import Optional

from edge.config.commands import Verb
from edge.errors import EdgeError


class Refused(EdgeError):
    """A request will not be carried out; what is known of it is told with the reason."""

    def __init__(
        self,
        reason: str,
        verb: Optional[Verb] = None,
        request_id: Optional[str] = None,
        camera: Optional[str] = None,
    ) -> None:
        super().__init__(reason)
        self.verb = verb
        self.request_id = request_id
        self.camera = camera
