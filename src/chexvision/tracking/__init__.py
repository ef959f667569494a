"""Where the figures of a run are also sent while it runs. A tracker can neither slow a step nor fail a run.

The training process hands small records to a process of their own, which alone imports the tracking library
(`tracker` here, `sink_process` there). It never waits for that process while it trains.
"""
