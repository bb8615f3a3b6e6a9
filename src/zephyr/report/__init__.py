"""What a run made and measured, for people: one self-contained page, and the model card."""
