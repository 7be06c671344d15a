"""Rule rewards: functions of text and numbers that import nothing above them.

- `math` finds answers and verifies them, by `answers/` here and by math-verify in the processes
  of `verifier_pool`; `choice` reads options, `bag_of_words` scores DROP, `instructions/` IF-Eval.
- `programs/` judges code, which runs in `sandbox/`.
- `format`, `language`, `length`, `repetition`, `preference`: the small rules of training.
"""
