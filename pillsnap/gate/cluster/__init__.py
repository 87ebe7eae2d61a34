"""The shards of a run on a Ray cluster.

`scheduling` says which worker gets which, `controller` is the run as pytest's items see it,
`supplies` what it gives to nodes, `worker` what these do with it, `pool` all that is Ray's.
"""
