"""What temperature scaling is made of: the NLL as a function of 1/T, the search for its minimum, scaled logits."""
