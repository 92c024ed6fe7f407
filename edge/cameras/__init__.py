"""`edge cameras`: what is connected, what the configured cameras deliver, and why one does not."""
