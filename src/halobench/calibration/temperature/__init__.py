"""Provide the parts of temperature scaling: the NLL as a function of 1/T, the search for its minimum, scaled logits."""
