"""The quickstart's world of sums: its problems, its texts and its base models."""
