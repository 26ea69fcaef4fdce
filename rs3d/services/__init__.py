"""Background work of the steward: each service is one subject, listed and run alike. Rank 8.

May import ranks 0 to 7. A service never touches what a request is reading: it works on what the catalog says is
nobody's.
"""
