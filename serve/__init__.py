"""The server: live and recorded speech to words, for every client that already exists.

    bytes -> protocol.parse -> session (bounded queue) -> batcher (two threads) -> protocol.render

`app` has the addresses, `protocols/` one codec for each language that clients speak. `session` and
`recordings` run them; `hub` is what the sessions of one process share.
"""
