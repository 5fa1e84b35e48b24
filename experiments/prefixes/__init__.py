"""Are prefixes of one vector as good as networks that were trained for each size alone?"""
