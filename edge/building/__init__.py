"""Makes what serves out of what the user brings; off the hot path."""
