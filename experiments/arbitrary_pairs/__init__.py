"""Can any two classes be pulled together, if a gate chooses where?"""
