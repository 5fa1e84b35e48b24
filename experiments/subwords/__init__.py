"""Is a pass through BERT worth it, or do its word pieces or fastText do for classifying texts?"""
