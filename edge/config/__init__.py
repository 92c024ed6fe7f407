"""The configuration: its shape, and how it is read."""
