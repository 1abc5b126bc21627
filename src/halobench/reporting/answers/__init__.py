"""Answer the four questions that every experiment is about, each with a sentence, a figure and its limit."""
