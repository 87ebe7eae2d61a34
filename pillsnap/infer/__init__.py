"""`python -m pillsnap.infer`: which model, what is read, what is written."""
