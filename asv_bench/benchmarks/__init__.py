"""The project's speed and memory, a module a topic.

Inputs are made and kernels compiled in `setup`, once a process.
"""
