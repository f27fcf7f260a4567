"""Graphs of processes for demo, soak and bench: started, listened to, measured and ended."""
