"""Cameras: sources, readers, mailboxes."""
