"""Drives the cores: one event loop on one thread, timers, paths, and a bridge for each application's socket.

thread    the loop in a daemon thread; calls from any other thread
watch     readiness of the applications' descriptors, edge-triggered
bridge    one application's descriptor <-> one port of a core; the reset rule
handle    what an application's Conn knows of its stream
driver    feed a core, perform what it asks, arm one timer
perform   one function per action
client, sessions, server   a client's session, the sessions of the process, a server
"""
