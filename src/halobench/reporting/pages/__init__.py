"""Write the report's pages as self-contained HTML that can be read without a network or JavaScript."""
