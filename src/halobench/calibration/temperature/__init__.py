"""Temperature scaling: the exact fit with its certificate, the paper's fit, and logits divided by a temperature."""
