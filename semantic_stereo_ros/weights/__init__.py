"""Published weights by name: what there is, where it lies on this machine, and how it comes here. No weight is part of this package."""
