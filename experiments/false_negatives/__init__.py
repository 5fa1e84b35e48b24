"""Does a guide model that hides suspected false negatives help contrastive training?"""
