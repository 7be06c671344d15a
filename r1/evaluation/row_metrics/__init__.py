"""The numbers of rows whose score is no mean of grades."""
