"""Solutions in Python and C++, run on tests and judged from outside."""
