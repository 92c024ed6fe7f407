"""What must reach the broker, kept on the disk until it has: a library that knows no MQTT."""
