"""What the appliance says about itself: rates, latencies, and the machine it runs on."""
