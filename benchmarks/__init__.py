"""What edge costs, with the peer measured beside it in the same run: see README.md."""
