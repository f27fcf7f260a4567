"""What a node knows of its own stream, how that is judged, and the sentences in which /diagnostics says it."""
