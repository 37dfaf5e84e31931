"""Virtual time: the cores that the engine drives, over simulated paths, with every guarantee of SPEC §2 asserted.

Level one of simulation. `python -m kwik.sim --seeds 1000` runs drawn scenarios; tests build theirs by hand.
Figures from here are never quoted as performance: blocks, windows and packets are scaled down.
"""
