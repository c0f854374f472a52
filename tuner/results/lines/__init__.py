"""The lines of a ledger: their models, entries to lines and back, and what may be wrong with them."""
