"""How fast Kwik is: programs that print ratios within one run. README.md says how to read them."""
