"""From single frames to batches."""
