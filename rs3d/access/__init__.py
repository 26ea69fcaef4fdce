"""Who is asking, and may they: SigV4 in all its forms, POST policies, bucket policies. Rank 3, pure, no I/O, no trio.

Nothing here looks up an identity. `authorization.find_claim` says who a request claims to come from, the caller looks
that access key up, and `sigv4.verify` proves the claim with its secret. The truth is AWS's: *Authenticating Requests
(AWS Signature Version 4)* and its pages on chunked uploads and POST policies in the S3 API reference, and *Policies and
permissions in Amazon S3* in its user guide. Where rs3d is stricter the function says so.
"""
