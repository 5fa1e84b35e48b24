"""Does a detector that imitates an image encoder name objects that nobody labelled?"""
