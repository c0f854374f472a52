"""Packages of the engines: pip, recipes, what is named on the command line, folders of wheels."""
