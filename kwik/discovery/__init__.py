"""Discovery: where the servers of a service are, told by several sources at once.

provider   what a source promises (the plug-in point)
static     a list of servers
mdns       the local network
supervisor runs them side by side and passes on what is valid

Nothing is imported here: a client with a list of servers must not pay for loading mDNS.
"""
