"""Write the report's pages as HTML that can be read without a network or JavaScript."""
