"""Do two masked views of items help two towers to find the items that a log hardly holds?"""
