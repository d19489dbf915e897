"""Measuring, tuning and looking into models and transcripts."""
