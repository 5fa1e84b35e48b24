"""Is one model, merged from models of single tasks, better than one that is trained on all tasks?"""
