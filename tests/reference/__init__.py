"""The pages of docs/reference and the picture of the house, generated from the code: `make reference`."""
