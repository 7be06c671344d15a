"""MMLU and its kin, GPQA, C-Eval and CLUEWSC; `formats` has the records and prompts of each."""
