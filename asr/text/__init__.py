"""Text: what is written, made into what a network can spell."""
