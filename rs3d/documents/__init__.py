"""The documents that S3 clients and rs3d exchange: bucket configurations, requests with lists, results. Rank 3, pure.

Every document is a frozen dataclass; what clients send has `parse(body)`, what they receive has `render()`. Parsing is
strict: an element S3 does not define is MalformedXML, never skipped, because a skipped element of a lifecycle rule once
deleted a bucket elsewhere. The truth is the S3 API reference, page by operation, and the XML it shows.
"""
