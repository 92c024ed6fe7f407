"""What cameras are there, what they deliver, and why one does not."""

from __future__ import annotations
