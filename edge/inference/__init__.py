"""Runs batches through the network."""
