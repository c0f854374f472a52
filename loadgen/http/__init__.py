"""One HTTP connection per stream: protocol, server-sent events, parsing of what arrived."""
