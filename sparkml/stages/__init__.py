"""One module or package a stage; each has a `STAGE`."""
