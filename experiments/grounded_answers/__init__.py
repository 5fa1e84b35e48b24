"""Can a sentence that weighs channels show where in a picture its answer is?"""
