"""This machine and its services: clocks, cores, memory, disks, locks, streams, connections to PostgreSQL."""
