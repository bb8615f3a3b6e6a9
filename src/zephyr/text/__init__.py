"""Text: the chat format, and what is done to dialogues before they are learnt from."""
