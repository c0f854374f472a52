"""An emulator of LLM engines: their flags, their faces, their step times on GPUs that are not here."""
