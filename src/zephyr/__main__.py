"""`python -m zephyr`."""

from zephyr.cli import main

main()
