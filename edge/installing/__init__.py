"""Puts the appliance into a machine: units, user, directories, a first configuration."""
