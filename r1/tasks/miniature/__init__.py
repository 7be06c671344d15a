"""The quickstart's world of sums.

`text` writes sums and thoughts, `general` talk; `miniature` has the tasks, `data` the rows of
later stages, and `base_model` what the embedded models are pretrained from.
"""
