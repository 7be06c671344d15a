"""SWE-bench Verified: issues of real repositories, answered with patches."""
