"""What the scripts share: one module a subject."""
