"""The only code that knows bytes on disk: encoding, decoding and checking, without input or output. Rank 4.

`FORMAT.md` beside this file is its law. Nothing here imports trio, opens a file or reads a clock.
"""
