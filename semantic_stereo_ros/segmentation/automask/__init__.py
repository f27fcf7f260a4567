"""All masks of an image from a promptable model, on the model's device. See `generate`, `levels`; torch is imported by them, not here."""
