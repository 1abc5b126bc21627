"""Diagnoses of logits from elsewhere: reading them, the questions, and the answers in words."""
