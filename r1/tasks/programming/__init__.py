"""Problems answered by a program: LiveCodeBench, HumanEval, MBPP, Codeforces, the user's own."""
