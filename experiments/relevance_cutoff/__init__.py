"""Can one threshold cut every query's list of results where it stops being relevant?"""
