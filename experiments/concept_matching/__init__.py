"""Can the coordinates of a matching model carry the names of concepts without a loss?"""
