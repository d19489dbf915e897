"""The server: live and recorded speech to words, for every client that already exists.

    bytes -> audio_in -> session (bounded queue) -> batcher (worker thread) -> protocol -> client

`app` has the addresses, `protocols/` one module for each language that clients speak, `hub` what
the conversations of one process share.
"""
