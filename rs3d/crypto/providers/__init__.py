"""Key providers: who keeps the keys of SSE-KMS, and how data keys are wrapped by them.

`protocol` is the interface, `registry` makes providers from the configuration, each other module is one body of it;
`tests/crypto/providerconformance.py` holds what all of them must do.
"""
