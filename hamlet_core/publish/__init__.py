"""Publishing: which local service goes to which peer as what, and the log each consumer's stream reads.

Tables in, tables out: no I/O, no threads, no wire format, and the time is an argument.
"""
