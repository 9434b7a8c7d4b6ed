-- What the sender says about TLS on the way, for the whole message and all its recipients (RFC 8689 §4.1); NULL: nothing.
ALTER TABLE message ADD COLUMN sender_tls TEXT CHECK (sender_tls IN ('requiretls', 'tls-required-no'));
