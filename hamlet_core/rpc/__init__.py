"""The protocol at work: TLS, streams and the two roles on them. It decides no policy."""
