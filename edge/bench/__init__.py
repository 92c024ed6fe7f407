"""`edge bench`: what the configured model does on this machine. Part of the composition root."""
