"""What comes into a node: subscribed to, brought together by stamp, and decoded into frames."""
