"""Does a vector for each aspect find documents that a vector of everything misses?"""
