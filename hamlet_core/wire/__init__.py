"""The Hamlet protocol as bytes: one codec per version between the neutral model and the wire. No streams."""
