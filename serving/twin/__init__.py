"""A digital twin of LLM engines: it reads their command lines and takes their step times from tables.

Public: `serving.twin.api`, `serving.twin.config`, `serving.twin.errors`. This file imports nothing, since
`serving.launch` needs the configuration alone.
"""
