"""Everything that makes the bundled demo model: data, network, training, export, evaluation."""
