"""Provide losses, one per file. A loss may mix a batch before the model sees it, and scores the model's logits."""
