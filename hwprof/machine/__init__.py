"""What this machine is and how it is doing, read per operating system.

`hwprof.environment` is the door to use. The reader of an operating system is imported on first use.
"""
