"""The S3 protocol on top of the engine: routes, authentication, authorization, headers, operations, errors. Rank 8.

A request goes `request` (what is asked) → `routes` (which operation) → `authentication` (who asks) → `authorization`
(may
they) → `headers` (nothing accepted and ignored) → `operations/` (a file per resource and verb; each returns a Response
and sends nothing) → `errors` (one table). `application.py` runs that line and is the only place where it is written
down.

`request`, `routes`, `headers`, `errors` and `ranges` are pure. Source of the behaviour: Amazon S3 API reference.
"""
