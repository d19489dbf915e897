"""Corpora: downloaded, unpacked, read, checked, and written as manifests (`asr-prepare`)."""
