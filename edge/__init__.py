"""edge: the vision appliance for NVIDIA Jetson."""

__version__ = "0.1.0"
