"""Reading the answers to maths problems and comparing them as what they are."""
