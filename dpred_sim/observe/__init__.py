"""What is shown of a run: the live view, tables, sentences."""
