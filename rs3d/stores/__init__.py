"""Bodies of the two store interfaces, Catalog and BlobStore, and the committer. Rank 6.

`interfaces.py` says what the engine may expect of any body; STORE.md's rules and `format/FORMAT.md` say what the
local bodies do.
"""
