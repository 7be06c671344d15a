"""SWE-bench Verified: issues of real repositories, answered with patches.

`swebench` is the task; `repository` shows files, `patch` reads replies and measures their
places, `container` runs the tests, whose output `logs` reads.
"""
