"""The verdict of engines' own parsers over random points of the ready spaces."""
