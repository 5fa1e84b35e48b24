"""Do sets of channels that fire on one patch tell classes that no single channel tells?"""
