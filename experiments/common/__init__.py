"""What several experiments share: reports, and ways to search that they compare."""
