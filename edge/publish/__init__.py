"""Everything that leaves over MQTT."""
