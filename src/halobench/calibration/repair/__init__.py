"""What repairs a model: richer maps than a temperature, the choice among them, and what they leave."""
