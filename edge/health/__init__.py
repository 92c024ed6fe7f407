"""The device's report about itself."""
