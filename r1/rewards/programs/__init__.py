"""Solutions in Python and C++, run on tests and judged from outside.

`blocks` finds the program, `checker` runs it and `verdict` decides, comparing by `outputs`;
`runner`, `asserts` and `values` are what runs inside the sandbox.
"""
