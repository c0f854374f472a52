"""The configuration of a load: arrivals, lengths, data. Pure."""
