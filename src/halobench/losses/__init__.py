"""Losses, one per file, looked up by name. A loss may mix a batch before the model sees it, and scores the logits."""
