"""Rule rewards: pure functions of text and numbers, and the maths verifier with its workers."""
