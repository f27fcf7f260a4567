"""Torch modules, used by backends and by training. Import one only when its backend is chosen."""
