"""What a node gives out: made and published only where somebody listens."""
