"""Files of users and pages of the web, read to text in a process that cannot do harm.

`documents` is the interface; `limited_process` runs `reading` (which kind a file is) and
`readers` (one function a format) behind the sandbox's walls or, without them, kernel limits.
"""
