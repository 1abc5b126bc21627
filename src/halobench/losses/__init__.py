"""Losses, one per file, found by name. A loss may mix a batch before the model sees it, and then scores the logits."""
