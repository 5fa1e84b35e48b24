"""Do distances that were learned on some identities verify others?"""
