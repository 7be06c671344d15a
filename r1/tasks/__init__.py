"""Tasks: problems with gold answers, and the grading of replies to them."""
