"""One trial, on the wall clock or simulated: run, meter, score, prune."""
