//! What travels between clients and servers.
