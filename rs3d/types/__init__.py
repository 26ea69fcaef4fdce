"""The nouns that every package shares: names, ids, records, operations, body sources. Rank 1; imports only `errors`
and `clock`."""
