"""rio: stream layers for stored bytes, sans I/O, and a thin Trio face to use them as a library."""
