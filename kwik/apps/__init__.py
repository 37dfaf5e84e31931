"""Programs made of Kwik: what a person runs, built only from what any user of the package could use."""
