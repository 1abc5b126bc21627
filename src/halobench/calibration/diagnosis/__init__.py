"""Diagnose logits from elsewhere: read them, answer questions about them, and put the answers into words."""
