"""A model on disk: reading it, making it of a run, exporting, compressing."""
