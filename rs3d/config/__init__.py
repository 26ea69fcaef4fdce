"""A loader of TOML configuration that knows no section: every package owns a frozen dataclass, the composition root
lists them.

Where a value came from (file and line, environment, command line, default) is kept beside it. Rank 1; imports
rs3d.errors only.
"""
