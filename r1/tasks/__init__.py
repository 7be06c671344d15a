"""Tasks: problems with gold answers, and the grading of replies to them.

- `task` says what a task is and has the table of names; `grading` reads replies, the same way
  for all tasks.
- `row_files`, `benchmark_data`, `benchmark_rows`: where problems are read from.
- `question_answer`, `math_sets`: mathematics and other answers that a rule checks.
- `multiple_choice/`, `drop`, `ifeval`, `judged/`: benchmarks of knowledge and instructions.
- `programming/`, `aider/`, `swebench/`: programs, edits and patches.
- `reasoning_gym/`, `miniature/`: problems that are generated.
"""
