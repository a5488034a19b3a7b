"""Who we are and who a peer is: SPIFFE IDs, trust bundles, certificate files, a development authority."""
