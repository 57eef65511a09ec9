"""Kills processes at work on one directory, again and again, and checks what they had promised.

====================== ======================================================================
`facts`                what was acknowledged, a line each, in a file that outlives its process
`dying`                a disk on which the process dies at a chosen operation
`workers`              puts, uploads, claims and releases of blobs, and all housekeeping
`publishers`           versions and aliases: publish, delete, restore, purge, move
`copies`               backup and restore
`judge`                what must be so after a kill, before and after a restart
`rounds`               forks, kills, has it judged, counts; ``python -m tests.support.torture``
====================== ======================================================================

Everything a process does is a forked child of one process without threads, so that a kill and a
restart cost a hundredth of a second; the real server is killed by `tests.compat.test_kill_server`.
"""
