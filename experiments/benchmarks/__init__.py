"""Side by side with other packages; one file per family of functions."""
