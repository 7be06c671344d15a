"""The benchmark table: its rows, how they are measured, and what is shown of them."""
