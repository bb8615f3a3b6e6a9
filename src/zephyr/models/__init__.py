"""Students and local teachers: where they come from, and how they are loaded and saved."""
