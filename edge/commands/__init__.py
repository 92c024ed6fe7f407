"""Commands: what others ask of the appliance over MQTT, and what they are answered."""
