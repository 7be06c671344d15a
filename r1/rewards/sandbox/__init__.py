"""Programs that nobody trusts, run behind the strongest walls that work here.

`sandbox` is the interface; `launch` starts a `supervisor`, which puts up the walls (`jail`,
`landlock`, `seccomp`) and watches the programs; `self_check` tries a level before it is used.
"""
