"""Browser tests, in a package so that pytest doesn't confuse its conftest.py with the one of all tests."""
