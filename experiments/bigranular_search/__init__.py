"""Do codes and vectors that are trained for their place in a search find more than codes of fixed vectors?"""
