"""Losses, one per file, looked up by name. A loss may mix a batch before the model sees it, then scores the logits."""
